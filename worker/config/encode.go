package config

import (
	"fmt"
	"io"
	"strings"
)

const commentWidth = 100

// Encode writes the whole configuration as a commented file. Loading it gives c back
// exactly.
func (c *Config) Encode(w io.Writer) error {
	return encode(w, c, nil, "# loco: the whole configuration. Loading this file gives exactly this run.\n")
}

// EncodePreset writes a preset as a commented file that names, for each of its
// numbers, where it is from.
func EncodePreset(w io.Writer, name string) error {
	cfg, ok := presetConfig(name)
	if !ok {
		return &Error{[]Problem{{Key: "preset", Value: quote(name), Why: unknownPreset(name)}}}
	}
	p, _ := findPreset(name)
	sources := map[string]string{}
	for _, s := range p.settings {
		sources[s.key] = s.source
	}
	return encode(w, &cfg, sources, "# loco, preset "+name+": "+p.summary+"\n")
}

func encode(w io.Writer, c *Config, sources map[string]string, head string) error {
	var b strings.Builder
	b.WriteString(head)
	_, tableDocs := Tables()
	def, table := Default(), ""
	for _, k := range Keys() {
		if k.Table != table {
			table = k.Table
			fmt.Fprintf(&b, "\n[%s] # %s\n", table, tableDocs[table])
		}
		doc := fmt.Sprintf("%s (%s; default %s)", k.Doc, k.Allowed(), k.Text(&def))
		if source, ok := sources[k.Name]; ok {
			doc += " Source: " + source + "."
		}
		writeComment(&b, doc)
		if k.Name == "run.rounds" && c.Run.Time > 0 { // written out it would end run.time
			b.WriteString("# ")
		}
		fmt.Fprintf(&b, "%s = %s\n", strings.TrimPrefix(k.Name, k.Table+"."), k.Text(c))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeComment(b *strings.Builder, text string) {
	width := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
			b.WriteString("# ")
			width = 2
		case width+1+len(word) > commentWidth:
			b.WriteString("\n# ")
			width = 2
		default:
			b.WriteByte(' ')
			width++
		}
		b.WriteString(word)
		width += len(word)
	}
	b.WriteByte('\n')
}
