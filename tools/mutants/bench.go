package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A verdict says what became of a mutant.
type verdict int

const (
	killed verdict = iota
	timedOut
	survived
	broken // it did not compile
	verdicts
)

func (v verdict) String() string {
	return [...]string{"killed", "timed out", "SURVIVED", "not compiling"}[v]
}

// A bench builds and runs tests with a mutant in place of the file that it comes from.
type bench struct {
	o        options
	packages []listed // the mutated one first
	temp     string
}

// listed is what the go command says of a package.
type listed struct {
	Dir, ImportPath string
	GoFiles         []string
	Module          struct{ Path string }
}

func newBench(ctx context.Context, o options) (*bench, error) {
	args := append([]string{"list", "-json=Dir,ImportPath,GoFiles,Module", o.pkg}, o.also...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stderr = o.dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	b := &bench{o: o}
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p listed
		if err := d.Decode(&p); err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		b.packages = append(b.packages, p)
	}
	if len(b.packages) != 1+len(o.also) {
		return nil, fmt.Errorf("%s must name one package", strings.Join(args[2:], " "))
	}
	b.temp, err = os.MkdirTemp("", "mutants-")
	return b, err
}

func (b *bench) close() { os.RemoveAll(b.temp) }

// mutants lists those of the package, in the order of files and lines.
func (b *bench) mutants() ([]mutant, error) {
	var all []mutant
	p := b.packages[0]
	slices.Sort(p.GoFiles)
	for _, name := range p.GoFiles {
		path := filepath.Join(p.Dir, name)
		src, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		below := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, p.Module.Path), "/")
		found, err := findMutants(filepath.ToSlash(filepath.Join(below, name)), path, src)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// try runs the tests on a mutant; on the tree as it is where m is nil.
func (b *bench) try(ctx context.Context, m *mutant) (verdict, string, error) {
	dir, err := os.MkdirTemp(b.temp, "")
	if err != nil {
		return broken, "", err
	}
	defer os.RemoveAll(dir)
	overlay := filepath.Join(dir, "overlay.json")
	if err := writeOverlay(dir, overlay, m); err != nil {
		return broken, "", err
	}
	for i, p := range b.packages {
		binary := filepath.Join(dir, strconv.Itoa(i)+".test")
		build := exec.CommandContext(ctx, "nice", "go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, p.ImportPath)
		build.Dir = b.o.dir
		if out, err := build.CombinedOutput(); err != nil {
			return broken, string(out), ctx.Err()
		}
		if _, err := os.Stat(binary); errors.Is(err, os.ErrNotExist) {
			continue // a package without tests
		}
		v, out := b.test(ctx, binary, p.Dir)
		if v != survived || ctx.Err() != nil {
			return v, out, ctx.Err()
		}
	}
	return survived, "", nil
}

func writeOverlay(dir, overlay string, m *mutant) error {
	replace := map[string]string{}
	if m != nil {
		changed := filepath.Join(dir, "mutant.go")
		text := slices.Concat(m.src[:m.start], []byte(m.text), m.src[m.end:])
		if err := os.WriteFile(changed, text, 0o600); err != nil {
			return err
		}
		replace[m.path] = changed
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	return os.WriteFile(overlay, text, 0o600)
}

// test runs a test binary, which gets no more memory and time than the options say: a mutant may loop
// for ever, and allocate while it does.
func (b *bench) test(ctx context.Context, binary, dir string) (verdict, string) {
	const grace = 5 * time.Second // by then the binary should have ended itself, with its stacks
	limit := b.o.timeout
	if limit == 0 {
		limit = time.Hour // the tests as they are
	}
	limited, cancel := context.WithTimeout(ctx, limit+grace)
	defer cancel()
	cmd := exec.CommandContext(limited, "sh", "-c", `ulimit -v "$0" && exec nice "$@"`, strconv.Itoa(b.o.memoryMiB<<10),
		binary, "-test.short", "-test.failfast", "-test.timeout="+limit.String())
	cmd.Dir, cmd.WaitDelay = dir, grace
	cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Dir(binary)) // what a killed test leaves goes with it
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return survived, string(out)
	case limited.Err() != nil || strings.Contains(string(out), "panic: test timed out"):
		return timedOut, string(out)
	}
	return killed, string(out)
}
