"""What a kubelet, a cloud controller and NVIDIA's node components would do on the simulated instances."""
