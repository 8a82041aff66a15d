"""Each run a Kubernetes Job. Only this folder knows the cluster; nothing here knows the queue."""
