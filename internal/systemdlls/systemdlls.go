// Package systemdlls keeps the program on Windows from loading a library from anywhere
// but the system's own folder: not from beside the program, which may have been copied
// into a folder of downloads, not from the folder that whoever started it was in, and
// not from PATH.
//
// Importing it is enough. Wails names its libraries without a folder and loads some of
// them before main, so it has to be quicker: packages begin in the order of their
// import paths where none waits for another (Go specification, "Program
// initialization"), and this one imports nothing but the standard library. It is no
// registry, and on other systems it does nothing.
package systemdlls
