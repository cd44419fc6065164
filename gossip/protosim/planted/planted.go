// Package planted shows that a package's schedules find mistakes. A mistake is a patch, one small
// file each, that is applied by the go command's -overlay when a test binary is built: no branch
// of the product asks for one.
//
// A patch begins with the mistake in words. Lines "world: W", "schedule: N" and "says: …" follow:
// the kind of schedules that find it, the first of them that does, and what the checker said.
// Then come edits. Each names a file of the module and has lines as of a diff, without numbers:
//
//	@@ gossip/protocol/census.go
//	 	g.drop = m.dropped
//	-	for _, p := range in {
//	+	for _, p := range in[1:] {
//
// Context and removed lines together must be in the file exactly once, as whole lines.
//
// A package that is shown to find them has a test that calls [Check], one that calls [Find], and a
// test called TestHunt that calls [Hunt]. Find builds the package's test binary with each patch
// and runs its TestHunt, first with the known schedule:
//
//	go test ./gossip/protosim -run Mutants -mutants          # each with its known schedule
//	go test ./gossip/protosim -run Mutants -mutants -update  # from the first schedule on; writes what it finds
package planted

import (
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mutant is a patch.
type mutant struct {
	path     string
	name     string
	world    string
	schedule uint64
	says     string
	edits    []edit
}

// edit replaces whole lines of a file.
type edit struct{ file, old, new string }

// header is what a patch begins with.
func (m mutant) header() string {
	return fmt.Sprintf("%s\nworld: %s\nschedule: %d\nsays: %s\n", m.name, m.world, m.schedule, m.says)
}

// parse reads a patch.
func parse(path, text string) (mutant, error) {
	m := mutant{path: path}
	head, body, ok := strings.Cut(text, "\n@@ ")
	if !ok {
		return m, fmt.Errorf("%s has no edit", path)
	}
	lines := strings.Split(strings.TrimSpace(head), "\n")
	m.name = lines[0]
	for _, line := range lines[1:] {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "world":
			m.world = value
		case "schedule":
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return m, fmt.Errorf("%s: %w", path, err)
			}
			m.schedule = n
		case "says":
			m.says = value
		default:
			return m, fmt.Errorf("%s: the line %q is neither world, schedule nor says", path, line)
		}
	}
	for _, part := range strings.Split(body, "\n@@ ") {
		e, err := parseEdit(part)
		if err != nil {
			return m, fmt.Errorf("%s: %w", path, err)
		}
		m.edits = append(m.edits, e)
	}
	return m, nil
}

func parseEdit(text string) (edit, error) {
	file, body, _ := strings.Cut(text, "\n")
	e := edit{file: file}
	for _, line := range strings.Split(strings.TrimRight(body, "\n"), "\n") {
		sign, rest := byte(' '), ""
		if line != "" {
			sign, rest = line[0], line[1:]+"\n"
		} else {
			rest = "\n"
		}
		switch sign {
		case ' ':
			e.old, e.new = e.old+rest, e.new+rest
		case '-':
			e.old += rest
		case '+':
			e.new += rest
		default:
			return e, fmt.Errorf("the line %q of %s begins with neither a blank, - nor +", line, file)
		}
	}
	if e.old == "" || e.old == e.new {
		return e, fmt.Errorf("the edit of %s changes nothing", file)
	}
	return e, nil
}

// read reads the patches of a folder, in the order of their file names.
func read(dir string) ([]mutant, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no patches in %s", dir)
	}
	slices.Sort(names)
	var all []mutant
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		m, err := parse(name, string(text))
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// apply returns the files that a mutant changes, with their new text.
func (m mutant) apply(root string) (map[string]string, error) {
	out := map[string]string{}
	for _, e := range m.edits {
		name := filepath.Join(root, filepath.FromSlash(e.file))
		text, done := out[name]
		if !done {
			b, err := os.ReadFile(name)
			if err != nil {
				return nil, fmt.Errorf("%s: the code has moved: %w", m.path, err)
			}
			text = string(b)
		}
		// Whole lines: the text begins a line.
		text = "\n" + text
		if n := strings.Count(text, "\n"+e.old); n != 1 {
			return nil, fmt.Errorf("%s: the code has changed: %d places of %s have these lines, want one:\n%s", m.path, n, e.file, e.old)
		}
		out[name] = strings.Replace(text, "\n"+e.old, "\n"+e.new, 1)[1:]
	}
	return out, nil
}

// root is the module's folder.
func root() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			break
		}
		dir = filepath.Dir(dir)
	}
	return "", fmt.Errorf("no go.mod above the test: %w", err)
}

// Check fails t where a patch of the folder does not apply exactly once to the code as it is, does
// not leave Go, or is not in the table of a document: "| name | schedule |". It builds nothing.
func Check(t *testing.T, dir, document string) {
	t.Helper()
	top, err := root()
	if err != nil {
		t.Fatal(err)
	}
	all, err := read(dir)
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile(filepath.Join(top, filepath.FromSlash(document)))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		files, err := m.apply(top)
		if err != nil {
			t.Error(err)
			continue
		}
		for name, text := range files {
			if _, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution); err != nil {
				t.Errorf("%s leaves no Go: %v", m.path, err)
			}
		}
		if row := fmt.Sprintf("| %s | %d |", m.name, m.schedule); !strings.Contains(string(table), "\n"+row) {
			t.Errorf("%s: the table of %s has no row %q", m.path, document, row)
		}
	}
}
