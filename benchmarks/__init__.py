"""Measurements that anybody can repeat. Nothing here is a test."""
