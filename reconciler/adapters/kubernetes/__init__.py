"""What trueup does in a Kubernetes cluster, over one client."""
