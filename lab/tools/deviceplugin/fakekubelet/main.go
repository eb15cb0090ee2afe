// Command fakekubelet is what NVIDIA's device plugin sees of a kubelet: it takes registrations, lists devices and allocates some.
//
// Each line of standard input asks for one run of the plugin, each line of standard output says what it registered, in the same order.
// The plugin's directory is fixed, so this runs in a mount namespace of its own, where that directory is empty.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const pollInterval = 5 * time.Millisecond

// question asks to run Command until Resources are registered, its log has Until, it ends, or Seconds have passed.
type question struct {
	Command   []string `json:"command"`
	Env       []string `json:"env"`
	Resources int      `json:"resources"`
	Until     string   `json:"until"`
	Updates   int      `json:"updates"` // how many lists of devices to wait for, 1 where it is 0
	Allocate  []int    `json:"allocate"`
	Seconds   float64  `json:"seconds"`
}

// answer says what was registered under which name. Ended is how the plugin ended by itself, empty where it did not.
type answer struct {
	Resources map[string]*resource `json:"resources"`
	Ended     string               `json:"ended"`
	TimedOut  bool                 `json:"timed_out"`
	Log       string               `json:"log"`
}

type resource struct {
	Devices    int                    `json:"devices"`
	Healthy    int                    `json:"healthy"`
	Error      string                 `json:"error"`
	Allocation map[string]*allocation `json:"allocation"`
}

// allocation is what a container would get, or why not.
type allocation struct {
	Error       string            `json:"error"`
	Env         map[string]string `json:"env"`
	Mounts      []string          `json:"mounts"`
	Devices     []string          `json:"devices"`
	CDI         []string          `json:"cdi"`
	Annotations map[string]string `json:"annotations"`
}

// kubelet collects what the present plugin registers.
type kubelet struct {
	api.UnimplementedRegistrationServer
	mutex    sync.Mutex
	question question
	found    map[string]*resource
	pending  sync.WaitGroup
}

func (k *kubelet) Register(_ context.Context, request *api.RegisterRequest) (*api.Empty, error) {
	k.mutex.Lock()
	asked, found := k.question, k.found
	k.mutex.Unlock()
	k.pending.Go(func() {
		seen := inspect(api.DevicePluginPath+request.Endpoint, asked)
		k.mutex.Lock()
		defer k.mutex.Unlock()
		found[request.ResourceName] = seen
	})
	return &api.Empty{}, nil
}

func (k *kubelet) registered() int {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return len(k.found)
}

// inspect asks a registered plugin what kubelet asks. Message sizes are limited as kubelet's are, by the default of gRPC.
func inspect(socket string, asked question) *resource {
	seen := &resource{Allocation: map[string]*allocation{}}
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		seen.Error = err.Error()
		return seen
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(asked.Seconds*float64(time.Second)))
	defer cancel()
	client := api.NewDevicePluginClient(connection)
	ids, err := list(ctx, client, max(asked.Updates, 1), seen)
	if err != nil {
		seen.Error = err.Error()
		return seen
	}
	for _, count := range asked.Allocate {
		if count <= len(ids) {
			seen.Allocation[fmt.Sprint(count)] = allocate(ctx, client, ids, count)
		}
	}
	return seen
}

func list(ctx context.Context, client api.DevicePluginClient, updates int, seen *resource) ([]string, error) {
	stream, err := client.ListAndWatch(ctx, &api.Empty{})
	if err != nil {
		return nil, err
	}
	var ids []string
	for range updates {
		message, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		ids, seen.Devices, seen.Healthy = nil, len(message.Devices), 0
		for _, device := range message.Devices {
			ids = append(ids, device.ID)
			if device.Health == api.Healthy {
				seen.Healthy++
			}
		}
	}
	sort.Strings(ids)
	return ids, nil
}

// allocate asks which devices the plugin prefers, as kubelet does, and for those.
func allocate(ctx context.Context, client api.DevicePluginClient, ids []string, count int) *allocation {
	preferred, err := client.GetPreferredAllocation(ctx, &api.PreferredAllocationRequest{ContainerRequests: []*api.ContainerPreferredAllocationRequest{
		{AvailableDeviceIDs: ids, AllocationSize: int32(count)},
	}})
	if err != nil {
		return &allocation{Error: err.Error()}
	}
	chosen := preferred.ContainerResponses[0].DeviceIDs
	response, err := client.Allocate(ctx, &api.AllocateRequest{ContainerRequests: []*api.ContainerAllocateRequest{{DevicesIds: chosen}}})
	if err != nil {
		return &allocation{Error: err.Error()}
	}
	given := response.ContainerResponses[0]
	result := &allocation{Env: given.Envs, Annotations: given.Annotations}
	for _, mount := range given.Mounts {
		result.Mounts = append(result.Mounts, mount.HostPath+":"+mount.ContainerPath)
	}
	for _, device := range given.Devices {
		result.Devices = append(result.Devices, device.HostPath)
	}
	for _, device := range given.CdiDevices {
		result.CDI = append(result.CDI, device.Name)
	}
	return result
}

// log keeps what a process writes, which another goroutine reads meanwhile.
type log struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (l *log) Write(text []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.Write(text)
}

func (l *log) String() string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.String()
}

// run starts the plugin, waits for what was asked, and ends it. The plugin handles SIGTERM once all of its resources are registered,
// so that after its end no registration is outstanding, also not one that nobody expected.
func (k *kubelet) run(asked question) (*answer, error) {
	if len(asked.Command) == 0 {
		return nil, errors.New("no command")
	}
	k.mutex.Lock()
	k.question, k.found = asked, map[string]*resource{}
	k.mutex.Unlock()
	output := &log{}
	command := exec.Command(asked.Command[0], asked.Command[1:]...)
	command.Env, command.Stdout, command.Stderr = asked.Env, output, output
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	result := &answer{}
	if k.wait(asked, output, ended, result) {
		if err := command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return nil, err
		}
		select {
		case <-ended:
		case <-time.After(time.Duration(asked.Seconds * float64(time.Second))):
			result.TimedOut = true
			if err := command.Process.Kill(); err != nil {
				return nil, err
			}
			<-ended
		}
	}
	k.pending.Wait()
	result.Resources, result.Log = k.found, output.String()
	return result, nil
}

// wait says whether the plugin still runs.
func (k *kubelet) wait(asked question, output *log, ended <-chan error, result *answer) bool {
	limit := time.After(time.Duration(asked.Seconds * float64(time.Second)))
	for {
		select {
		case err := <-ended:
			result.Ended = "exit status 0"
			if err != nil {
				result.Ended = err.Error()
			}
			return false
		case <-limit:
			result.TimedOut = true
			return true
		case <-time.After(pollInterval):
		}
		if asked.Resources > 0 && k.registered() >= asked.Resources || asked.Until != "" && strings.Contains(output.String(), asked.Until) {
			return true
		}
	}
}

func serve() error {
	listener, err := net.Listen("unix", api.KubeletSocket)
	if err != nil {
		return err
	}
	k := &kubelet{}
	server := grpc.NewServer()
	api.RegisterRegistrationServer(server, k)
	go func() {
		if err := server.Serve(listener); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}()
	defer server.Stop()
	questions := json.NewDecoder(bufio.NewReader(os.Stdin))
	answers := json.NewEncoder(os.Stdout)
	for questions.More() {
		var asked question
		if err := questions.Decode(&asked); err != nil {
			return err
		}
		found, err := k.run(asked)
		if err != nil {
			return err
		}
		if err := answers.Encode(found); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	runtime.LockOSThread() // Pdeathsig is sent when the thread that started the process ends, not only the process
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
