"""Tests on a real Swarm of several nodes, each in namespaces of its own on this machine."""
