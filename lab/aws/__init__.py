"""The simulated AWS of the lab: moto for the services that it imitates well, our own EKS in front of it."""
