"""Prepares models of other frameworks as ONNX for compreface_engine; no server imports it."""
