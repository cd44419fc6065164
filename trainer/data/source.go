package data

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Skipped counts the files of a source that are left out, by reason. Hidden,
// vendored and testdata folders count as one each, whatever they hold.
type Skipped struct {
	Hidden    int `json:"hidden"`    // the name starts with a dot
	Vendored  int `json:"vendored"`  // folders "vendor" and "node_modules"
	Testdata  int `json:"testdata"`  // folders "testdata"
	Extension int `json:"extension"` // not one of the extensions asked for
	Irregular int `json:"irregular"` // symbolic links, which are not followed, sockets, devices
	Generated int `json:"generated"` // "Code generated ... DO NOT EDIT." in the head
	Binary    int `json:"binary"`    // not UTF-8, or with a NUL byte
	Empty     int `json:"empty"`
	Sampled   int `json:"sampled"` // over MaxBytes
}

// entry is a file of a source.
type entry struct {
	name     string // relative to the source, slash-separated
	size     int64
	modified int64 // nanoseconds; for the manifest's key only
}

// tree is a source whose files are known but not yet read.
type tree struct {
	root    string // absolute
	single  bool   // root is a file
	limit   int64  // bytes that are taken of a file at most
	entries []entry
	skipped Skipped
}

// path is where an entry is.
func (t *tree) path(e entry) string {
	if t.single {
		return t.root
	}
	return filepath.Join(t.root, filepath.FromSlash(e.name))
}

// goSource is the name of the source that every Go installation has.
const goSource = "go"

// sourcesMax bounds the number of files of a source.
const sourcesMax = 10_000_000

// findSource returns the folder or file that a source names, and the extensions to
// take from it.
func findSource(ctx context.Context, source string, extensions []string) (string, []string, error) {
	if source != "" && source != goSource {
		root, err := filepath.Abs(source)
		if err != nil {
			return "", nil, fmt.Errorf("data: source %q: %w", source, err)
		}
		return root, extensions, nil
	}
	root, err := goRoot(ctx)
	if err != nil {
		return "", nil, err
	}
	if len(extensions) == 0 {
		extensions = []string{".go"}
	}
	return filepath.Join(root, "src"), extensions, nil
}

// goCommandMax bounds `go env GOROOT`, which answers in milliseconds.
const goCommandMax = 20 * time.Second

// goRoot finds a Go installation that has its source: what the go command says,
// then where that command lies, then where installers put it.
func goRoot(ctx context.Context) (string, error) {
	var candidates []string
	if command, err := exec.LookPath("go"); err == nil {
		ctx, cancel := context.WithTimeout(ctx, goCommandMax)
		defer cancel()
		run := exec.CommandContext(ctx, command, "env", "GOROOT")
		run.Dir = os.TempDir()                              // outside any module,
		run.Env = append(os.Environ(), "GOTOOLCHAIN=local") // so that no go.mod selects another toolchain
		if out, err := run.Output(); err == nil {
			candidates = append(candidates, strings.TrimSpace(string(out)))
		}
		if real, err := filepath.EvalSymlinks(command); err == nil {
			candidates = append(candidates, filepath.Dir(filepath.Dir(real)))
		}
	}
	return firstGoRoot(append(candidates, "/usr/local/go", "/usr/lib/go", `C:\Program Files\Go`))
}

func firstGoRoot(candidates []string) (string, error) {
	for _, dir := range candidates {
		if dir == "" {
			continue
		}
		if info, err := os.Stat(filepath.Join(dir, "src", "fmt", "print.go")); err == nil && info.Mode().IsRegular() {
			return dir, nil
		}
	}
	return "", fmt.Errorf("data: no Go installation with its source was found to train on: name a folder or file of text with --set data.source=DIR")
}

// walk lists the files of a source in sorted order of their names, by folder. It
// reads no file. The root may be a symbolic link.
func walk(ctx context.Context, root string, extensions []string) (*tree, error) {
	named := root
	root, err := filepath.EvalSymlinks(named)
	if err != nil {
		// What the error names is the first part of the path that is not there.
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			err = e.Err
		}
		return nil, fmt.Errorf("data: source %s: %w: name a folder or file of text with --set data.source=DIR", named, err)
	}
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("data: source: %w", err)
	}
	t := &tree{root: root}
	if info.Mode().IsRegular() {
		t.single = true
		t.entries = []entry{{name: filepath.Base(root), size: info.Size(), modified: info.ModTime().UnixNano()}}
		return t, nil
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || path == root {
			return err
		}
		return t.visit(path, d, extensions)
	})
	if err != nil {
		return nil, fmt.Errorf("data: source: %w", err)
	}
	slices.SortFunc(t.entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return t, nil
}

func (t *tree) visit(path string, d fs.DirEntry, extensions []string) error {
	base := d.Name()
	skip := func(count *int) error {
		*count++
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	}
	switch {
	case strings.HasPrefix(base, "."):
		return skip(&t.skipped.Hidden)
	case d.IsDir() && (base == "vendor" || base == "node_modules"):
		return skip(&t.skipped.Vendored)
	case d.IsDir() && base == "testdata":
		return skip(&t.skipped.Testdata)
	case d.IsDir():
		return nil
	case !d.Type().IsRegular():
		return skip(&t.skipped.Irregular)
	case len(extensions) > 0 && !slices.Contains(extensions, filepath.Ext(base)):
		return skip(&t.skipped.Extension)
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return skip(&t.skipped.Empty)
	}
	if len(t.entries) == sourcesMax {
		return fmt.Errorf("%s has over %d files: name a smaller folder", t.root, sourcesMax)
	}
	name, err := filepath.Rel(t.root, path)
	if err != nil {
		return err
	}
	t.entries = append(t.entries, entry{name: filepath.ToSlash(name), size: info.Size(), modified: info.ModTime().UnixNano()})
	return nil
}

// generatedHead is how much of a file is searched for the mark of generated code.
const generatedHead = 2048

// verdict says what reading a file showed.
type verdict uint8

const (
	isText verdict = iota
	isBinary
	isGenerated
	isEmpty
)

// scan reads a file once, up to limit bytes, and says whether it belongs in the
// corpus, and how many bytes of it. A character that the limit cuts is left out.
// buffer is scratch of at least generatedHead bytes.
func scan(r io.Reader, limit int64, buffer []byte) (verdict, int64, error) {
	r = io.LimitReader(r, limit)
	size := int64(0)
	kept := 0 // bytes of an unfinished character, at the start of buffer
	for {
		n, err := io.ReadFull(r, buffer[kept:])
		end := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !end {
			return 0, 0, err
		}
		piece := buffer[:kept+n]
		if size == 0 && isGeneratedCode(piece[:min(len(piece), generatedHead)]) {
			return isGenerated, 0, nil
		}
		size += int64(n)
		if bytes.IndexByte(piece, 0) >= 0 {
			return isBinary, 0, nil
		}
		whole := len(piece)
		if !end || size == limit {
			whole -= unfinished(piece)
		}
		if !utf8.Valid(piece[:whole]) {
			return isBinary, 0, nil
		}
		if end {
			size -= int64(len(piece) - whole)
			break
		}
		kept = copy(buffer, piece[whole:])
	}
	if size == 0 {
		return isEmpty, 0, nil
	}
	return isText, size, nil
}

// unfinished is the number of bytes at the end of p that begin a character and do
// not end it.
func unfinished(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		if utf8.RuneStart(p[len(p)-n]) {
			if utf8.FullRune(p[len(p)-n:]) {
				return 0
			}
			return n
		}
	}
	return 0
}

// isGeneratedCode looks for a line that says so, in any language's comment.
func isGeneratedCode(head []byte) bool {
	for line := range bytes.Lines(head) {
		i := bytes.Index(line, []byte("Code generated "))
		if i >= 0 && bytes.Contains(line[i:], []byte("DO NOT EDIT")) {
			return true
		}
	}
	return false
}
