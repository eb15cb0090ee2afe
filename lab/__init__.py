"""The rehearsal lab: a simulated AWS and real Kubernetes control planes on 127.0.0.1."""
