"""The Helm chart and the plain manifests on a real Kubernetes."""
