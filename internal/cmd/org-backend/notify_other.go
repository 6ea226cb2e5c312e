//go:build !linux

package main

// notify is for systemd, which is not here.
func notify(string) {}
