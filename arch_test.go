// Package loco_test holds the rules of the house: which package may import which,
// and how long a file and a function may grow.
package loco_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	fileLinesMax = 500 // a file is one idea
	funcLinesMax = 70  // a function fits on a screen
)

// allowed lists what each package may import besides the standard library. A "/..."
// ending allows everything below. Tests are exempt. A package that is missing here
// fails the test: adding one is a design decision.
var allowed = map[string][]string{
	"kernels":            {},
	"kernels/splitmix":   {}, // a leaf that everybody may use
	"kernels/cpu":        {"loco/kernels", "golang.org/x/sys/cpu"},
	"kernels/reference":  {"loco/kernels"},
	"kernels/kerneltest": {"loco/kernels", "loco/kernels/reference", "loco/kernels/splitmix"},
	"kernels/cuda":       {"loco/kernels", "loco/kernels/cuda/driver", "loco/kernels/cuda/ptx"},
	// One GPU through cu, for kernels/cuda alone; late binds the driver's library at run time.
	"kernels/cuda/driver":      {"loco/kernels/cuda/driver/late", "gorgonia.org/cu"},
	"kernels/cuda/driver/late": {},
	"kernels/cuda/ptx":         {},
	"kernels/cuda/emulator":    {},
	"optim":                    {"loco/kernels"},
	"trainer/strategy":         {"loco/gossip/exchange", "loco/optim", "loco/kernels"},
	"trainer/data":             {"loco/checkpoint/atomicfile", "loco/kernels/splitmix"},
	"trainer/model":            {"loco/kernels", "loco/kernels/splitmix"},
	"trainer":                  {"loco/gossip/exchange", "loco/trainer/strategy", "loco/trainer/data", "loco/trainer/model", "loco/optim", "loco/kernels", "loco/kernels/cpu"}, // cpu: the host's mirror
	// Above what it measures, below the command; the benchmarks of kernels use it as a test may.
	"cmd/loco/bench":  {"loco/kernels", "loco/kernels/cpu", "loco/optim", "loco/trainer/model"},
	"gossip/exchange": {},                                                                                                                         // the nouns that trainer and gossip share
	"gossip/codec":    {"loco/kernels", "loco/kernels/cpu"},                                                                                       // its loops, which have assembly
	"gossip":          {"loco/mesh", "loco/gossip/exchange", "loco/kernels", "loco/gossip/codec", "loco/gossip/protocol", "loco/gossip/transfer"}, // kernels: the digest
	"gossip/transfer": {"loco/mesh", "loco/mesh/wire", "loco/gossip/exchange"},                                                                    // a mesh's IDs
	"gossip/protocol": {"loco/kernels/splitmix", "loco/mesh", "loco/mesh/wire", "loco/gossip/exchange", "loco/gossip/codec"},                      // a mesh's members, a codec's block
	"gossip/protosim": {"loco/mesh", "loco/mesh/events", "loco/gossip/codec", "loco/gossip/protocol"},                                             // the protocol alone, in virtual time: no shell, no goroutine
	"mesh":            {},
	"mesh/wire":       {},
	"mesh/events":     {},
	"mesh/meshtest":   {"loco/mesh"},
	"mesh/sim":        {"loco/mesh"},
	"mesh/swim":       {"loco/kernels/splitmix", "loco/mesh", "loco/mesh/wire"},
	"mesh/netem":      {"golang.org/x/sys/unix"}, // a test bed: only tests import it
	"mesh/p2p": {
		"loco/checkpoint/atomicfile", "loco/mesh", "loco/mesh/swim", "loco/mesh/wire", "github.com/libp2p/...", "github.com/multiformats/...",
		"github.com/prometheus/client_golang/prometheus",
	},
	"mesh/p2p/p2ptest":      {"loco/mesh", "loco/mesh/sim", "github.com/libp2p/...", "github.com/multiformats/..."}, // a network for tests
	"checkpoint":            {"loco/checkpoint/atomicfile"},
	"checkpoint/storetest":  {"loco/checkpoint"},
	"checkpoint/atomicfile": {}, // a leaf that everybody may use
	"worker/config":         {"loco/gossip", "loco/mesh/swim", "loco/optim", "loco/gossip/codec", "loco/trainer/data", "loco/trainer/strategy", "github.com/pelletier/go-toml/v2/..."},
	"cmd/loco/compare":      {"loco/checkpoint/atomicfile", "loco/worker/config", "github.com/pelletier/go-toml/v2/...", "gonum.org/v1/plot/..."},
	"tools/mutants":         {}, // for developers: nothing imports it

	// Only tests import it: it builds the mutants of a package.
	"gossip/protosim/planted": {},
	// One worker as a process: where everything but the commands meets.
	"worker": {"loco/gossip", "loco/gossip/exchange", "loco/mesh", "loco/trainer", "loco/trainer/strategy"}, // over any mesh: no file, no TOML, no TCP, no Prometheus
	"worker/process": {
		"loco/worker", "loco/worker/config", "loco/trainer", "loco/trainer/strategy", "loco/trainer/data", "loco/trainer/model", "loco/optim", "loco/checkpoint", "loco/checkpoint/atomicfile",
		"loco/gossip", "loco/gossip/codec", "loco/gossip/exchange", "loco/mesh", "loco/mesh/p2p", "loco/kernels", "loco/kernels/cpu", "loco/kernels/cuda", "loco/kernels/cuda/driver",
		"github.com/prometheus/client_golang/...", "golang.org/x/sys/windows",
	},
	"cmd/loco": {
		"loco/cmd/loco/bench", "loco/cmd/loco/compare", "loco/worker", "loco/worker/config", "loco/worker/process", "loco/trainer", "loco/trainer/strategy", "loco/trainer/data", "loco/checkpoint", "loco/kernels", "loco/kernels/cpu", "loco/gossip/protosim",
		"github.com/alecthomas/kong", "github.com/vbauerster/mpb/v8/...", "golang.org/x/term",
	},
}

// Pure packages are given round, seed and time as arguments, so that a run replays.
var pure = map[string][]string{
	"kernels/splitmix":  {"time", "net", "os", "context", "sync", "math/rand", "math/rand/v2"},
	"kernels":           {"time", "net", "os", "math/rand", "math/rand/v2"},
	"kernels/cpu":       {"net", "os", "math/rand", "math/rand/v2"}, // its thread pool may use time
	"kernels/reference": {"time", "net", "os", "math/rand", "math/rand/v2"},
	"optim":             {"time", "net", "os", "math/rand", "math/rand/v2"},
	"gossip/codec":      {"time", "net", "os", "math/rand", "math/rand/v2"},
	// It is given times and never asks for one: TestProtocolAsksNoClock.
	"gossip/protosim": {"net", "os", "context", "sync"},
	"gossip/protocol": {"net", "os", "context", "sync", "math/rand", "math/rand/v2"},
	"mesh/wire":       {"time", "net", "os", "context", "sync", "math/rand", "math/rand/v2"},
	"mesh/swim":       {"net", "os", "context", "sync", "math/rand", "math/rand/v2"},
	"gossip/transfer": {"net", "os", "context", "sync", "math/rand", "math/rand/v2"},
	"trainer/model":   {"time", "net", "os", "math/rand", "math/rand/v2"},
}

func TestArchitecture(t *testing.T) {
	documented := map[string]bool{}
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			base := d.Name()
			if name != "." && (base[0] == '_' || base[0] == '.' || base == "testdata" || base == "runs") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		dir := path.Dir(filepath.ToSlash(name))
		documented[dir] = documented[dir] || f.Doc != nil
		if !ast.IsGenerated(f) {
			checkImports(t, dir, name, f)
			checkLengths(t, fset, name, f)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", dir)
		}
	}
	for dir := range allowed {
		if _, ok := documented[dir]; !ok {
			t.Errorf("%s is in the table and has no code", dir)
		}
	}
}

func checkImports(t *testing.T, dir, name string, f *ast.File) {
	t.Helper()
	rules, known := allowed[dir]
	if !known {
		t.Errorf("%s: package %q is not in the table of imports", name, dir)
		return
	}
	for _, spec := range f.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if slices.Contains(pure[dir], imp) {
			t.Errorf("%s: the pure package %s may not import %s", name, dir, imp)
		}
		if host, _, _ := strings.Cut(imp, "/"); host != "loco" && !strings.Contains(host, ".") {
			continue // standard library
		}
		if !slices.ContainsFunc(rules, func(rule string) bool {
			below, all := strings.CutSuffix(rule, "/...")
			return imp == below || all && strings.HasPrefix(imp, below+"/")
		}) {
			t.Errorf("%s: %s may not import %s", name, dir, imp)
		}
	}
}

// TestReadmeTree holds the README's tree to what it says of itself: every package has a row,
// and imports from its own row and those below it only.
func TestReadmeTree(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z/]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		rows = append(rows, m[1])
	}
	row := func(pkg string) int {
		return slices.IndexFunc(rows, func(r string) bool { return pkg == r || strings.HasPrefix(pkg, r+"/") })
	}
	for pkg, imports := range allowed {
		if row(pkg) < 0 {
			t.Errorf("README.md: no row for %s among %v", pkg, rows)
		}
		for _, imp := range imports {
			if below, ours := strings.CutPrefix(imp, "loco/"); ours && row(below) < row(pkg) {
				t.Errorf("README.md: %s imports %s, which stands above it", pkg, below)
			}
		}
	}
	for _, m := range regexp.MustCompile("`([a-z]+/[a-z0-9/]+)`").FindAllStringSubmatch(string(text), -1) {
		if _, err := os.Stat(m[1]); err != nil && row(m[1]) >= 0 {
			t.Errorf("README.md: %v", err)
		}
	}
}

// TestProtocolAsksNoClock holds the protocols' state machines to be pure: they compute
// with the times that they are given, and start nothing.
func TestProtocolAsksNoClock(t *testing.T) {
	names, err := filepath.Glob("gossip/protocol/*.go")
	more, _ := filepath.Glob("gossip/transfer/*.go")
	swim, _ := filepath.Glob("mesh/swim/*.go")
	if err != nil || len(names) == 0 || len(more) == 0 || len(swim) == 0 {
		t.Fatal(names, more, swim, err)
	}
	names = append(append(names, more...), swim...)
	fset := token.NewFileSet()
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt, *ast.ChanType, *ast.SelectStmt:
				t.Errorf("%s: the protocol has no goroutine and no channel", fset.Position(n.Pos()))
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && n.Sel.Name != "Time" && n.Sel.Name != "Duration" {
					t.Errorf("%s: time.%s: the protocol is given times and never asks for one", fset.Position(n.Pos()), n.Sel.Name)
				}
			}
			return true
		})
	}
}

func checkLengths(t *testing.T, fset *token.FileSet, name string, f *ast.File) {
	t.Helper()
	if n := fset.File(f.Pos()).LineCount(); n > fileLinesMax {
		t.Errorf("%s has %d lines, the limit is %d", name, n, fileLinesMax)
	}
	for _, decl := range f.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > funcLinesMax {
			t.Errorf("%s: %s has %d lines, the limit is %d", name, fn.Name.Name, n, funcLinesMax)
		}
	}
}
