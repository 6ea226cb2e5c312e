package orgconfig

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Lines returns in which line of a configuration file each key stands, as
// "section.key". Entries of a list are counted: "ehrs[0].name". A file that cannot be
// read has none.
func Lines(file string) map[string]int {
	lines := map[string]int{}
	text, err := ReadBounded(file, maxConfigBytes)
	if err != nil {
		return lines
	}
	var document yaml.Node
	if yaml.Unmarshal(text, &document) != nil {
		return lines
	}
	for _, top := range document.Content {
		number(top, "", lines)
	}
	return lines
}

func number(n *yaml.Node, path string, lines map[string]int) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := strings.TrimPrefix(path+"."+n.Content[i].Value, ".")
			lines[key] = n.Content[i].Line
			number(n.Content[i+1], key, lines)
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			key := path + "[" + strconv.Itoa(i) + "]"
			lines[key] = item.Line
			number(item, key, lines)
		}
	}
}

// At puts the line of the key before a fault of the form "section.key: what is
// wrong"; a key that is not there counts as where its section stands.
func At(lines map[string]int, fault string) string {
	key, _, _ := strings.Cut(fault, ":")
	for {
		if line, ok := lines[key]; ok {
			return "line " + strconv.Itoa(line) + ": " + fault
		}
		cut := strings.LastIndexAny(key, ".[")
		if cut < 0 {
			return fault
		}
		key = key[:cut]
	}
}
