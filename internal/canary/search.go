package canary

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"io"
	"strings"
)

// block is how many bytes of a form are looked up at once.
const block = 8

// filterBits is the size of the filter that most bytes do not pass: 2 MiB.
const filterBits = 24

// index knows every form of every mark by its blocks. It is a filter over 8 bytes at
// a time, then a map, then a comparison in both directions: the time of a search does
// not grow with the number of marks.
type index struct {
	forms  []form
	blocks map[uint64][]spot
	filter []uint64
}

// spot is where a block stands in a form.
type spot struct{ form, at int32 }

func (m *Marks) index() *index {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := &index{blocks: map[uint64][]spot{}, filter: make([]uint64, 1<<(filterBits-6))}
	for _, text := range m.order {
		for _, f := range formsOf(m.known[text], text) {
			x.add(f)
		}
	}
	return x
}

func (x *index) add(f form) {
	number := int32(len(x.forms))
	x.forms = append(x.forms, f)
	// With this stride every run of need bytes holds a whole block.
	for at := 0; at+block <= len(f.text); at += f.need - block + 1 {
		key := binary.LittleEndian.Uint64([]byte(f.text[at:]))
		x.blocks[key] = append(x.blocks[key], spot{number, int32(at)})
		bit := hash(key)
		x.filter[bit>>6] |= 1 << (bit & 63)
	}
}

func hash(key uint64) uint64 { return key * 0x9E3779B97F4A7C15 >> (64 - filterBits) }

// in calls found for each form that stands in some bytes, once for each place where
// it stands.
func (x *index) in(data []byte, found func(form)) {
	ends := map[int32]int{} // form → end of the run that was told
	for i := 0; i+block <= len(data); i++ {
		key := binary.LittleEndian.Uint64(data[i:])
		bit := hash(key)
		if x.filter[bit>>6]&(1<<(bit&63)) == 0 {
			continue
		}
		for _, s := range x.blocks[key] {
			if i < ends[s.form] {
				continue
			}
			f := x.forms[s.form]
			from, to := 0, block
			for i+from > 0 && int(s.at)+from > 0 && data[i+from-1] == f.text[int(s.at)+from-1] {
				from--
			}
			for i+to < len(data) && int(s.at)+to < len(f.text) && data[i+to] == f.text[int(s.at)+to] {
				to++
			}
			if to-from >= f.need {
				ends[s.form] = i + to
				found(f)
			}
		}
	}
}

// Bounds of what is unpacked, so that an archive cannot fill the memory.
const (
	deepest = 6
	largest = 256 << 20
)

// Searcher looks for marks and keeps account of where it has looked. It is not safe
// for concurrent use.
type Searcher struct {
	index *index
	looks map[PlaceName]*Look
	finds map[Find]*Find
}

// NewSearcher takes the marks as they are now.
func NewSearcher(m *Marks) *Searcher {
	return &Searcher{index: m.index(), looks: map[PlaceName]*Look{}, finds: map[Find]*Find{}}
}

// Search looks through something that was in a place, and through what is packed in it.
func (s *Searcher) Search(place PlaceName, where string, data []byte) {
	look := s.looks[place]
	if look == nil {
		look = &Look{Place: place}
		s.looks[place] = look
	}
	look.Items++
	look.Bytes += int64(len(data))
	s.search(place, where, data, "", 0)
}

func (s *Searcher) search(place PlaceName, where string, data []byte, packed string, depth int) {
	s.index.in(data, func(f form) {
		key := Find{Place: place, Where: where, Kind: f.kind, Form: packed + f.name}
		if s.finds[key] == nil {
			found := key
			s.finds[key] = &found
		}
		s.finds[key].Times++
	})
	if depth == deepest {
		return
	}
	unpack(data, func(how string, inner []byte) { s.search(place, where, inner, packed+how+", ", depth+1) })
}

// unpack gives what is packed in some bytes: members of archives, compressed streams
// that begin anywhere, and what stands in base64.
func unpack(data []byte, give func(how string, inner []byte)) {
	if archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data))); err == nil {
		for _, member := range archive.File {
			give("name in a zip", []byte(member.Name+member.Comment))
			if r, err := member.Open(); err == nil {
				give("in a zip", readSome(r))
				_ = r.Close()
			}
		}
	}
	if len(data) > 512 && bytes.HasPrefix(data[257:], []byte("ustar")) {
		for r := tar.NewReader(bytes.NewReader(data)); ; {
			member, err := r.Next()
			if err != nil {
				break
			}
			give("name in a tar", []byte(member.Name))
			give("in a tar", readSome(r))
		}
	}
	streams(data, []byte{0x1f, 0x8b, 8}, func(at []byte) {
		if r, err := gzip.NewReader(bytes.NewReader(at)); err == nil {
			give("in gzip", readSome(r))
		}
	})
	for _, magic := range [][]byte{{0x78, 0x01}, {0x78, 0x9c}, {0x78, 0xda}} {
		streams(data, magic, func(at []byte) {
			if r, err := zlib.NewReader(bytes.NewReader(at)); err == nil {
				give("in zlib", readSome(r))
			}
		})
	}
	inBase64(data, func(inner []byte) { give("in base64", inner) })
}

// streams calls found wherever a magic stands.
func streams(data, magic []byte, found func([]byte)) {
	for at := 0; ; {
		next := bytes.Index(data[at:], magic)
		if next < 0 {
			return
		}
		found(data[at+next:])
		at += next + len(magic)
	}
}

// readSome reads as much as can be read: a stream that breaks off has still shown
// what came before.
func readSome(r io.Reader) []byte {
	data, _ := io.ReadAll(io.LimitReader(r, largest))
	return data
}

// base64Least is the shortest run that is worth decoding: sixteen characters hold the
// dozen bytes of a part.
const base64Least = 16

// inBase64 decodes every run of base64's characters from its beginning, for what is in
// it packed once more; what is in it plainly has forms of its own.
func inBase64(data []byte, found func([]byte)) {
	start := -1
	for i := 0; i <= len(data); i++ {
		if i < len(data) && isBase64(data[i]) {
			if start < 0 {
				start = i
			}
			continue
		}
		if start >= 0 && i-start >= base64Least {
			run := strings.NewReplacer("-", "+", "_", "/").Replace(string(data[start:i]))
			run = run[:len(run)/4*4]
			if inner, err := base64.RawStdEncoding.DecodeString(run); err == nil {
				found(inner)
			}
		}
		start = -1
	}
}

func isBase64(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '+' || c == '/' || c == '-' || c == '_'
}
