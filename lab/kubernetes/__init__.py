"""Real Kubernetes control planes, one for each EKS cluster of the simulated AWS."""
