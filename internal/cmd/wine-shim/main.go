// Command wine-shim writes the one DLL that Wine 8 lacks and every Go program asks
// for: bcryptprimitives.dll, with ProcessPrng as its only export. The file holds no
// code; the export is forwarded to advapi32.SystemFunction036 (RtlGenRandom), which
// Wine has. A build for tests only: it is never part of a package.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
)

const (
	address   = 0x1000 // where the one section is loaded
	alignment = 0x200  // of the file
	headers   = 0x200
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: wine-shim FILE")
		os.Exit(2)
	}
	if err := os.WriteFile(os.Args[1], library(), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "wine-shim:", err)
		os.Exit(1)
	}
}

// library is the DLL, as the PE format has it ("PE Format", Microsoft Learn).
func library() []byte {
	section := exports()
	var file bytes.Buffer
	put := func(v any) { _ = binary.Write(&file, binary.LittleEndian, v) }
	dos := make([]byte, 0x40)
	copy(dos, "MZ")
	binary.LittleEndian.PutUint32(dos[0x3c:], uint32(len(dos)))
	file.Write(dos)

	file.WriteString("PE\x00\x00")
	put([]uint16{0x8664, 1})                                         // amd64, one section
	put([]uint32{0, 0, 0})                                           // no time, no symbols
	put([]uint16{240, 0x2022})                                       // an executable DLL that may lie above 2 GB
	put(uint16(0x20b))                                               // PE32+
	file.Write([]byte{1, 0})                                         // linker version
	put([]uint32{0, alignment, 0, 0, 0})                             // sizes; no entry point
	put(uint64(0x180000000))                                         // preferred base
	put([]uint32{0x1000, alignment})                                 // alignments
	put([]uint16{6, 0, 0, 0, 6, 0})                                  // Windows Vista and newer
	put([]uint32{0, 2 * 0x1000, headers, 0})                         // sizes of image and headers
	put([]uint16{3, 0x160})                                          // console; relocatable, no execution of data
	put([]uint64{0x100000, 0x1000, 0x100000, 0x1000})                // stack and heap
	put([]uint32{0, 16})                                             // data directories
	put(append([]uint32{address, uint32(len(section))}, zeros()...)) // the first is that of exports

	file.WriteString(".edata\x00\x00")
	put([]uint32{uint32(len(section)), address, alignment, headers, 0, 0, 0, 0x40000040})
	file.Write(make([]byte, headers-file.Len()))
	file.Write(section)
	file.Write(make([]byte, headers+alignment-file.Len()))
	return file.Bytes()
}

func zeros() []uint32 { return make([]uint32, 30) }

// exports is the table of exports: directory, one address, one name, one ordinal,
// and their texts. An address that points into the table is a forward.
func exports() []byte {
	const (
		directory = 40
		functions = address + directory
		names     = functions + 4
		ordinals  = names + 4
		texts     = ordinals + 4
	)
	dll, function, forward := "bcryptprimitives.dll\x00", "ProcessPrng\x00", "advapi32.SystemFunction036\x00"
	dllAt := uint32(texts)
	functionAt := dllAt + uint32(len(dll))
	forwardAt := functionAt + uint32(len(function))
	var table bytes.Buffer
	_ = binary.Write(&table, binary.LittleEndian, []uint32{0, 0, 0, dllAt, 1, 1, 1, functions, names, ordinals, forwardAt, functionAt})
	_ = binary.Write(&table, binary.LittleEndian, []uint16{0, 0})
	table.WriteString(dll + function + forward)
	return table.Bytes()
}
