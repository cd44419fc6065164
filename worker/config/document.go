package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

const maxFileBytes = 1 << 20

// Document is a parsed TOML file that knows the line of each key.
type Document struct {
	Name   string         // as error messages show it
	Values map[string]any // as go-toml decodes it

	lines map[string]int
}

// ReadDocument reads and parses a file of at most 1 MiB.
func ReadDocument(path string) (*Document, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("config: read %s: %w", path, err)
	}
	return ParseDocument(path, data)
}

// ParseDocument parses TOML. A syntax error or a key that is set twice is an *Error
// with its line.
func ParseDocument(name string, data []byte) (*Document, error) {
	if len(data) > maxFileBytes {
		return nil, &Error{[]Problem{{Where: name, Why: fmt.Sprintf("larger than %d bytes, which no configuration is", maxFileBytes)}}}
	}
	d := &Document{Name: name, Values: map[string]any{}, lines: map[string]int{}}
	if err := toml.Unmarshal(data, &d.Values); err != nil {
		where := name
		var at *toml.DecodeError
		if errors.As(err, &at) {
			row, column := at.Position()
			where = fmt.Sprintf("%s:%d:%d", name, row, column)
		}
		return nil, &Error{[]Problem{{Where: where, Why: strings.TrimPrefix(err.Error(), "toml: ")}}}
	}
	d.index(data)
	return d, nil
}

// Where returns "file:line" of a key such as "sync.gamma" or "variant.0.set", or of
// the nearest table above it, or the file's name alone.
func (d *Document) Where(key string) string {
	for {
		if line, ok := d.lines[key]; ok {
			return d.Name + ":" + strconv.Itoa(line)
		}
		cut := strings.LastIndexByte(key, '.')
		if cut < 0 {
			return d.Name
		}
		key = key[:cut]
	}
}

// index walks the syntax tree for the line of each key. The decoder has accepted the
// document before.
func (d *Document) index(data []byte) {
	var p unstable.Parser
	p.Reset(data)
	table, arrays := "", map[string]int{}
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table:
			table = d.mark(&p, "", e, arrays)
		case unstable.ArrayTable:
			name, line := d.keyPath(&p, "", e, arrays, true)
			table = name + "." + strconv.Itoa(arrays[name])
			arrays[name]++
			d.lines[table] = line
		case unstable.KeyValue:
			d.indexValue(&p, table, e, arrays)
		}
	}
}

func (d *Document) indexValue(p *unstable.Parser, table string, kv *unstable.Node, arrays map[string]int) {
	name := d.mark(p, table, kv, arrays)
	if v := kv.Value(); v.Kind == unstable.InlineTable {
		for it := v.Children(); it.Next(); {
			if child := it.Node(); child.Kind == unstable.KeyValue {
				d.indexValue(p, name, child, arrays)
			}
		}
	}
}

// mark notes the line of a node's key, the first time it is seen.
func (d *Document) mark(p *unstable.Parser, table string, n *unstable.Node, arrays map[string]int) string {
	name, line := d.keyPath(p, table, n, arrays, false)
	if _, ok := d.lines[name]; !ok {
		d.lines[name] = line
	}
	return name
}

// keyPath joins a node's dotted key to table. A part that names an array of tables
// is followed by the number of its newest element, but for the last part of a [[header]].
func (d *Document) keyPath(p *unstable.Parser, table string, n *unstable.Node, arrays map[string]int, header bool) (path string, line int) {
	path = table
	for it := n.Key(); it.Next(); {
		part := it.Node()
		if line == 0 {
			line = p.Shape(part.Raw).Start.Line
		}
		if path != "" {
			path += "."
		}
		path += string(part.Data)
		if count := arrays[path]; count > 0 && (!header || !it.IsLast()) {
			path += "." + strconv.Itoa(count-1)
		}
	}
	return path, line
}
