# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why our objects are not those of NVIDIA's chart: a reason for every difference, and no reason without one."""

from __future__ import annotations

from tests.oracle.chart import Reason

PLUGIN, DAEMON, DISCOVERY, RIGHTS = "device plugin", "MPS control daemon", "GPU feature discovery", "rights"

REASONS = (
    Reason(
        what="nodeAffinity",
        why=(
            "One DaemonSet per configuration, on the nodes whose label names it: a change restarts the pods of that configuration alone. "
            "The label is given where nodes are made, so that nothing waits for node feature discovery, without which the chart's "
            "DaemonSets select no node (k8s-device-plugin#315, #734, #1085). Configuration `default` has GPU nodes without the label too."
        ),
    ),
    Reason(
        what="podAntiAffinity",
        components=(DAEMON,),
        why=(
            "The daemon sets GPUs to one process each, under the pods that a plugin of another strategy has given them to. The scheduler "
            "keeps them apart while nodes change from one to the other."
        ),
    ),
    Reason(
        what="nodeSelector",
        components=(DAEMON,),
        why=(
            "The chart's label comes from GPU feature discovery: without it the daemon runs nowhere and the plugin waits for ever "
            "(k8s-device-plugin#634, #679, #712, #762, #1595). Ours is selected as the plugin is."
        ),
    ),
    Reason(
        what="DaemonSet",
        components=(DAEMON,),
        why="The chart cannot tell what configurations share by and always has the DaemonSet; ours is there where something is shared by MPS.",
    ),
    Reason(
        what="annotations of the pods",
        why=(
            "`gpuops.eks/hash` is over the file and the pod, so that a changed file always replaces the pods; the chart's checksum is over "
            "configurations in its values alone (k8s-device-plugin#364). `gpuops.eks/sharing` is what a later run reads of the present state."
        ),
    ),
    Reason(
        what="selector",
        why="The chart's three DaemonSets have one selector, so that tools take the pods of one for another's (k8s-device-plugin#982, #1716).",
    ),
    Reason(
        what="update strategy",
        why="A tenth of the nodes at once. While nodes are drained one by one it is `OnDelete`: pods are replaced when their node's turn comes.",
    ),
    Reason(
        what="container .*-sidecar|init container .*-init",
        why=(
            "No config-manager. Run once it does not see the node's label and takes the default (k8s-device-plugin#1645); it panics when it "
            "signals beside a process without command line (#1726), and does not find the MPS control daemon by the path that it is told."
        ),
    ),
    Reason(
        what="shareProcessNamespace",
        components=(PLUGIN, DISCOVERY),
        why="It is there for config-manager's signals.",
    ),
    Reason(
        what="container .*: mount (/available-configs|/config)|container .*: mount /config/config.yaml",
        why=(
            "The one file of the configuration, read only, in place of a directory that config-manager links a file of many into. By "
            "subPath, so that the file does not change under a running plugin, which reads it again when kubelet restarts."
        ),
    ),
    Reason(
        what="key of the ConfigMap",
        why="A ConfigMap for each configuration, mounted as it is; the chart's has one key for each.",
    ),
    Reason(
        what="securityContext",
        why="Empty in the chart, which is the same.",
    ),
    Reason(
        what="container nvidia-device-plugin-ctr: securityContext",
        components=(PLUGIN,),
        why=(
            "SYS_ADMIN is needed for MIG and for volume-mounts. The chart adds it whenever there is a ConfigMap, since it cannot tell "
            "what is in it; here that is known."
        ),
    ),
    Reason(
        what="serviceAccountName|automountServiceAccountToken",
        components=(PLUGIN, DAEMON),
        why="These ask the API server for nothing; in the chart config-manager does. GPU feature discovery has an account of its own.",
    ),
    Reason(
        what="ClusterRole|Role|ClusterRoleBinding|RoleBinding",
        components=(RIGHTS,),
        why=(
            "For GPU feature discovery alone, in its own namespace, and for what it calls alone: NodeFeature objects are made where their pod "
            "is, and go with it. Nodes are read by config-manager only."
        ),
    ),
    Reason(
        what="container .*: env NVIDIA_MIG_MONITOR_DEVICES",
        why="For MIG alone: without MIG instances there is nothing to watch. The chart sets it whenever there is a ConfigMap.",
    ),
    Reason(
        what="container .*: env (MPS_ROOT|PASS_DEVICE_SPECS|NVIDIA_DRIVER_ROOT)",
        components=(PLUGIN,),
        why=(
            "The configuration file says it, or nothing does. A variable would win over the file; the plugin wants MPS_ROOT with MPS only, "
            "and `/` is its own default for the driver's root."
        ),
    ),
    Reason(
        what="container nvidia-device-plugin-ctr: mount (/mps|/dev/shm)",
        components=(PLUGIN,),
        why=(
            "For MPS alone. There the shared memory has to be the daemon's: type Directory lets the plugin wait for it, where the chart's "
            "mount makes an empty directory in its place."
        ),
    ),
    Reason(
        what="container nvidia-device-plugin-ctr: mount /var/run/cdi",
        components=(PLUGIN,),
        why="For CDI alone: nothing else writes there.",
    ),
    Reason(
        what="container gpu-feature-discovery-ctr: env GFD_USE_NODE_FEATURE_API",
        components=(DISCOVERY,),
        why="Said, since versions before v0.19.0 have the other default. The chart leaves it to the program's.",
    ),
    Reason(
        what="container gpu-feature-discovery-ctr: env (NVIDIA_VISIBLE_DEVICES|NVIDIA_DRIVER_CAPABILITIES)",
        components=(DISCOVERY,),
        why="As for the plugin, for container runtimes that give GPUs to those who ask only; the chart relies on what the image sets.",
    ),
    Reason(
        what="container gpu-feature-discovery-ctr: mount (/etc/kubernetes/.*|/sys)",
        components=(DISCOVERY,),
        why="Labels go out as NodeFeature objects, not as files of the host; and what is only read is mounted to be read.",
    ),
    Reason(
        what="volume that nothing mounts: driver-root",
        components=(DISCOVERY,),
        why="The chart's volume has no mount.",
    ),
    Reason(
        what="container mps-control-daemon-ctr: readinessProbe",
        components=(DAEMON,),
        why=(
            "The daemon is ready when it answers with the limit that was set: pods that start before are not held to it "
            "(k8s-device-plugin#1946)."
        ),
    ),
    Reason(
        what="init container mps-control-daemon-mounts: imagePullPolicy",
        components=(DAEMON,),
        why="As for the other containers; Kubernetes has the same default for an image with a tag.",
    ),
)
