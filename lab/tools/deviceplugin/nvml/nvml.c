/* A libnvidia-ml.so.1 without a driver: it tells of the GPUs that its environment variables describe.
 *
 * FAKE_NVML_GPUS           how many GPUs, 1 where unset
 * FAKE_NVML_NAME           what NVML calls each of them
 * FAKE_NVML_MEMORY_MIB     the memory of each
 * FAKE_NVML_COMPUTE        compute capability, such as 8.0
 * FAKE_NVML_MIG_PROFILES   set where GPUs know MIG: the profiles that they have, PROFILE:SLICES:MEMORY_MIB with commas between,
 *                          PROFILE being a number of NVML_GPU_INSTANCE_PROFILE_*
 * FAKE_NVML_MIG            set where MIG mode is on: each GPU's instances, in the same way; empty for no instances
 * FAKE_NVML_MIG_GPUS       how many of the GPUs are in MIG mode, all where unset
 * FAKE_NVML_XID            an XID that befalls the first GPU while the device plugin watches
 *
 * A function that the device plugin or GPU feature discovery calls and that is not here ends them with "symbol lookup error".
 */
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nvml.h"

enum { MOST_GPUS = 16, MOST_INSTANCES = 8, ALL_INSTANCES = -1, MOST_PROFILES = NVML_GPU_INSTANCE_PROFILE_COUNT };

/* A handle points at one of these: a GPU, or one of its MIG devices. */
struct nvmlDevice_st {
    int gpu;
    int instance;
};
struct instance {
    unsigned int profile, slices;
    unsigned long long memory_mib;
};

static struct nvmlDevice_st gpus[MOST_GPUS], mig_devices[MOST_GPUS][MOST_INSTANCES];
static struct instance instances[MOST_INSTANCES], profiles[MOST_PROFILES];
static int gpu_count = 1, instance_count, profile_count, mig_gpus;
static const char *gpu_name = "Tesla T4";
static unsigned long long memory_mib = 15360;
static int compute_major = 7, compute_minor = 5, mig_capable;
static unsigned long long xid;

static const char *setting(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value ? value : otherwise;
}

static int read_instances(const char *name, struct instance *found, int most) {
    char copy[1024];
    int count = 0;
    snprintf(copy, sizeof copy, "%s", setting(name, ""));
    for (char *rest = copy, *one; (one = strtok_r(rest, ",", &rest)); count++) {
        struct instance *next = &found[count];
        if (count == most || sscanf(one, "%u:%u:%llu", &next->profile, &next->slices, &next->memory_mib) != 3) {
            fprintf(stderr, "%s: %s is not one of at most %d PROFILE:SLICES:MEMORY_MIB\n", name, one, most);
            abort();
        }
    }
    return count;
}

__attribute__((constructor)) static void read_settings(void) {
    gpu_count = atoi(setting("FAKE_NVML_GPUS", "1"));
    if (gpu_count > MOST_GPUS) abort();
    gpu_name = setting("FAKE_NVML_NAME", gpu_name);
    memory_mib = strtoull(setting("FAKE_NVML_MEMORY_MIB", "15360"), NULL, 10);
    sscanf(setting("FAKE_NVML_COMPUTE", "7.5"), "%d.%d", &compute_major, &compute_minor);
    xid = strtoull(setting("FAKE_NVML_XID", "0"), NULL, 10);
    mig_capable = getenv("FAKE_NVML_MIG_PROFILES") != NULL;
    profile_count = read_instances("FAKE_NVML_MIG_PROFILES", profiles, MOST_PROFILES);
    instance_count = read_instances("FAKE_NVML_MIG", instances, MOST_INSTANCES);
    if (getenv("FAKE_NVML_MIG")) mig_gpus = atoi(setting("FAKE_NVML_MIG_GPUS", "16"));
    for (int gpu = 0; gpu < MOST_GPUS; gpu++) {
        gpus[gpu] = (struct nvmlDevice_st){gpu, ALL_INSTANCES};
        for (int i = 0; i < MOST_INSTANCES; i++) mig_devices[gpu][i] = (struct nvmlDevice_st){gpu, i};
    }
}

static int is_mig(nvmlDevice_t device) { return device.handle->instance != ALL_INSTANCES; }
static struct instance *instance_of(nvmlDevice_t device) { return &instances[device.handle->instance]; }

static void write_uuid(const struct nvmlDevice_st *device, char *buffer, unsigned int length) {
    if (device->instance == ALL_INSTANCES)
        snprintf(buffer, length, "GPU-00000000-0000-4000-8000-%012d", device->gpu);
    else
        snprintf(buffer, length, "MIG-00000000-0000-4000-8000-%06d%06d", device->gpu, device->instance);
}

/* The library */
nvmlReturn_t nvmlInit_v2(void) { return NVML_SUCCESS; }
nvmlReturn_t nvmlShutdown(void) { return NVML_SUCCESS; }
const char *nvmlErrorString(nvmlReturn_t result) {
    static char text[32];
    snprintf(text, sizeof text, "NVML error %d", result);
    return text;
}
nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    snprintf(version, length, "580.95.05");
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) {
    *version = 13000;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) { return nvmlSystemGetCudaDriverVersion_v2(version); }

/* Devices */
nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = gpu_count;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    if ((int)index >= gpu_count) return NVML_ERROR_INVALID_ARGUMENT;
    device->handle = &gpus[index];
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    char own[NVML_DEVICE_UUID_V2_BUFFER_SIZE];
    for (int gpu = 0; gpu < gpu_count; gpu++)
        for (int i = ALL_INSTANCES; i < instance_count; i++) {
            device->handle = i == ALL_INSTANCES ? &gpus[gpu] : &mig_devices[gpu][i];
            write_uuid(device->handle, own, sizeof own);
            if (!strcmp(own, uuid)) return NVML_SUCCESS;
        }
    return NVML_ERROR_NOT_FOUND;
}
nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    (void)device;
    snprintf(name, length, "%s", gpu_name);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    write_uuid(device.handle, uuid, length);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int *minor) {
    *minor = device.handle->gpu;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index) {
    *index = device.handle->gpu;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    memset(pci, 0, sizeof *pci);
    pci->bus = device.handle->gpu + 1;
    snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", pci->bus);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    memory->total = (is_mig(device) ? instance_of(device)->memory_mib : memory_mib) << 20;
    memory->free = memory->total;
    memory->used = 0;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor) {
    (void)device;
    *major = compute_major;
    *minor = compute_minor;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetAddressingMode(nvmlDevice_t device, nvmlDeviceAddressingMode_t *mode) {
    (void)device, (void)mode;
    return NVML_ERROR_NOT_SUPPORTED;
}
nvmlReturn_t nvmlDeviceGetGpuFabricInfo(nvmlDevice_t device, nvmlGpuFabricInfo_t *fabric) {
    (void)device, (void)fabric;
    return NVML_ERROR_NOT_SUPPORTED;
}
nvmlReturn_t nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t device, nvmlGpuFabricInfoV_t *fabric) {
    (void)device, (void)fabric;
    return NVML_ERROR_NOT_SUPPORTED;
}

/* How GPUs are connected, which GetPreferredAllocation looks at */
nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t one, nvmlDevice_t other, nvmlGpuTopologyLevel_t *level) {
    (void)one, (void)other;
    *level = NVML_TOPOLOGY_NODE;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned int link, nvmlEnableState_t *state) {
    (void)device, (void)link, (void)state;
    return NVML_ERROR_NOT_SUPPORTED;
}
nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned int link, nvmlPciInfo_t *pci) {
    (void)device, (void)link, (void)pci;
    return NVML_ERROR_NOT_SUPPORTED;
}

/* Events */
nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set) {
    set->handle = (struct nvmlEventSet_st *)gpus;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
    (void)set;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types) {
    (void)device;
    *types = nvmlEventTypeXidCriticalError;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set) {
    (void)device, (void)types, (void)set;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *event, unsigned int milliseconds) {
    (void)set;
    if (!xid) {
        usleep(milliseconds * 1000);
        return NVML_ERROR_TIMEOUT;
    }
    usleep(200 * 1000); /* so that the device was healthy before */
    *event = (nvmlEventData_t){{&gpus[0]}, nvmlEventTypeXidCriticalError, xid, ~0u, ~0u};
    xid = 0;
    return NVML_SUCCESS;
}

/* MIG */
static int in_mig_mode(nvmlDevice_t device) { return device.handle->gpu < mig_gpus; }
static const struct instance *with_profile(unsigned int profile) {
    for (int i = 0; i < profile_count; i++)
        if (profiles[i].profile == profile) return &profiles[i];
    return NULL;
}
/* A compute instance of all slices of its GPU instance. */
static unsigned int compute_profile(unsigned int slices) {
    switch (slices) {
        case 7: return NVML_COMPUTE_INSTANCE_PROFILE_7_SLICE;
        case 8: return NVML_COMPUTE_INSTANCE_PROFILE_8_SLICE;
        case 6: return NVML_COMPUTE_INSTANCE_PROFILE_6_SLICE;
        default: return slices - 1;
    }
}
nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending) {
    if (!mig_capable) return NVML_ERROR_NOT_SUPPORTED;
    *current = *pending = in_mig_mode(device) ? NVML_DEVICE_MIG_ENABLE : NVML_DEVICE_MIG_DISABLE;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count) {
    *count = in_mig_mode(device) ? MOST_INSTANCES : 0;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int *answer) {
    *answer = is_mig(device);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index, nvmlDevice_t *mig) {
    if (!in_mig_mode(device) || (int)index >= instance_count) return NVML_ERROR_NOT_FOUND;
    mig->handle = &mig_devices[device.handle->gpu][index];
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t mig, nvmlDevice_t *device) {
    if (!is_mig(mig)) return NVML_ERROR_INVALID_ARGUMENT;
    device->handle = &gpus[mig.handle->gpu];
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t mig, nvmlDeviceAttributes_t *attributes) {
    if (!is_mig(mig)) return NVML_ERROR_NOT_SUPPORTED;
    const struct instance *own = instance_of(mig);
    memset(attributes, 0, sizeof *attributes);
    attributes->multiprocessorCount = 14 * own->slices;
    attributes->sharedCopyEngineCount = own->slices;
    attributes->gpuInstanceSliceCount = attributes->computeInstanceSliceCount = own->slices;
    attributes->memorySizeMB = own->memory_mib;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t mig, unsigned int *id) {
    if (!is_mig(mig)) return NVML_ERROR_NOT_SUPPORTED;
    *id = mig.handle->instance + 1;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t mig, unsigned int *id) {
    if (!is_mig(mig)) return NVML_ERROR_NOT_SUPPORTED;
    *id = 0;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, unsigned int id, nvmlGpuInstance_t *instance) {
    if (id < 1 || (int)id > instance_count) return NVML_ERROR_NOT_FOUND;
    instance->handle = (struct nvmlGpuInstance_st *)&mig_devices[device.handle->gpu][id - 1];
    return NVML_SUCCESS;
}
static struct nvmlDevice_st *device_of(const void *handle) { return (struct nvmlDevice_st *)handle; }
nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t instance, nvmlGpuInstanceInfo_t *info) {
    struct nvmlDevice_st *mig = device_of(instance.handle);
    memset(info, 0, sizeof *info);
    info->device.handle = &gpus[mig->gpu];
    info->id = mig->instance + 1;
    info->profileId = instances[mig->instance].profile;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlGpuInstanceGetComputeInstanceById(nvmlGpuInstance_t instance, unsigned int id, nvmlComputeInstance_t *compute) {
    if (id != 0) return NVML_ERROR_NOT_FOUND;
    compute->handle = (struct nvmlComputeInstance_st *)instance.handle;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlComputeInstanceGetInfo_v2(nvmlComputeInstance_t compute, nvmlComputeInstanceInfo_t *info) {
    struct nvmlDevice_st *mig = device_of(compute.handle);
    memset(info, 0, sizeof *info);
    info->device.handle = &gpus[mig->gpu];
    info->gpuInstance.handle = (struct nvmlGpuInstance_st *)mig;
    info->profileId = compute_profile(instances[mig->instance].slices);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, unsigned int profile, nvmlGpuInstanceProfileInfo_t *info) {
    (void)device;
    const struct instance *known = with_profile(profile);
    if (!known) return NVML_ERROR_NOT_SUPPORTED;
    memset(info, 0, sizeof *info);
    info->id = profile;
    info->sliceCount = known->slices;
    info->memorySizeMB = known->memory_mib;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfo(nvmlGpuInstance_t instance, unsigned int profile, unsigned int engine,
                                                          nvmlComputeInstanceProfileInfo_t *info) {
    unsigned int slices = instances[device_of(instance.handle)->instance].slices;
    if (engine != NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED || profile != compute_profile(slices)) return NVML_ERROR_NOT_SUPPORTED;
    memset(info, 0, sizeof *info);
    info->id = profile;
    info->sliceCount = slices;
    return NVML_SUCCESS;
}
