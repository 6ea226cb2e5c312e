// Package libraries has Windows load libraries that are named without a folder from
// the system's folder only, so that a file that lies beside the program, such as in a
// folder of downloads, is never taken for one of them. Whoever imports it has that from
// the first moment on: a library that this program is linked with loads gdiplus.dll
// before main begins (measured), and Windows looks beside the program first
// (Dynamic-Link Library Search Order, Microsoft Learn).
//
// It imports nothing but syscall, because Go initialises packages in the order of their
// paths as soon as what they import is there (The Go Programming Language
// Specification, "Program initialization"). On other systems it does nothing. It never
// loads a library, and keeps nobody from naming one by its whole path, as WebView2 is.
package libraries
