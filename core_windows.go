package main

// withoutCore has nothing to do: Go's runtime ends a process that crashes by itself,
// before Windows would report it (but for GOTRACEBACK=wer).
func withoutCore() {}
