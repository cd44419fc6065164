package planted

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const patch = `the sum starts at one
world: sums
schedule: 7
says: want 6

@@ sum.go
 func sum(xs []int) int {
-	s := 0
+	s := 1

@@ sum.go
-	return s
+	return -s
`

const code = `package sum

func sum(xs []int) int {
	s := 0
	for _, x := range xs {
		s += x
	}

	return s
}
`

func TestPatchIsReadAndApplied(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "sum.go")
	if err := os.WriteFile(name, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := parse("sum.patch", strings.Replace(patch, "+	s := 1\n\n", "+	s := 1\n", 1))
	if err != nil {
		t.Fatal(err)
	}
	if m.name != "the sum starts at one" || m.world != "sums" || m.schedule != 7 || m.says != "want 6" {
		t.Errorf("the header is read as %+v", m)
	}
	files, err := m.apply(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("s := 0", "s := 1", "return s", "return -s").Replace(code)
	if got := files[name]; len(files) != 1 || got != want {
		t.Errorf("the mutant is\n%s\nwant\n%s", got, want)
	}
}

// A patch that would change nothing, or another place than it was made for, is an error that says so.
func TestPatchThatDoesNotFitIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sum.go"), []byte(code+code), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, text, want string }{
		{"no edit", "a name\nworld: w\n", "has no edit"},
		{"unknown key", "a name\nseed: 3\n\n@@ sum.go\n-a\n+b\n", `"seed: 3"`},
		{"no number", "a name\nschedule: x\n\n@@ sum.go\n-a\n+b\n", `"x"`},
		{"unknown sign", "a name\n\n@@ sum.go\n*a\n", `"*a"`},
		{"no change", "a name\n\n@@ sum.go\n-a\n+a\n", "changes nothing"},
		{"only added", "a name\n\n@@ sum.go\n+a\n", "changes nothing"},
		{"no file", "a name\n\n@@ diff.go\n-a\n+b\n", "the code has moved"},
		{"nowhere", "a name\n\n@@ sum.go\n-\ts := 2\n", "0 places"},
		{"part of a line", "a name\n\n@@ sum.go\n-s := 0\n", "0 places"},
		{"twice", "a name\n\n@@ sum.go\n-\ts := 0\n", "2 places"},
	} {
		m, err := parse("x.patch", c.text)
		if err == nil {
			_, err = m.apply(dir)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error that says %q", c.name, err, c.want)
		}
	}
}

func TestFindingsAreWritten(t *testing.T) {
	name := filepath.Join(t.TempDir(), "sum.patch")
	if err := os.WriteFile(name, []byte(patch), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := parse(name, patch)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.write(12, "want 8"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(name)
	want := strings.NewReplacer("schedule: 7", "schedule: 12", "want 6", "want 8").Replace(patch)
	if err != nil || strings.ReplaceAll(string(got), "\n\n", "\n") != strings.ReplaceAll(want, "\n\n", "\n") {
		t.Errorf("the patch is now %v\n%s\nwant\n%s", err, got, want)
	}
}
