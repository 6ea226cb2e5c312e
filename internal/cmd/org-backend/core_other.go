//go:build !unix

package main

// withoutCore has nothing to do where there are no cores.
func withoutCore() {}
