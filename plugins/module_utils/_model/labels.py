# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Label keys and resource names, in one place."""

from __future__ import annotations

GPU_RESOURCE = "nvidia.com/gpu"
GPU_PRESENT_LABEL = "nvidia.com/gpu.present"
DEVICE_PLUGIN_CONFIG_LABEL = "nvidia.com/device-plugin.config"
NODEPOOL_LABEL = "gpuops.eks/nodepool"
ACCELERATOR_LABEL = "k8s.amazonaws.com/accelerator"

# Of NVIDIA's GPU Operator. Sources: gpu-operator, controllers/state_manager.go; mig-parted, pkg/mig/reconfigure.
OPERANDS_LABEL = "nvidia.com/gpu.deploy.operands"
MIG_CONFIG_LABEL = "nvidia.com/mig.config"
MIG_STATE_LABEL = "nvidia.com/mig.config.state"
