package process

import (
	"os"
	"path/filepath"
	"testing"
)

// A worker that goes on from a round drops the lines of later rounds, and a last line that
// a crash cut short.
func TestARecordIsTrimmed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "metrics.jsonl")
	before := `{"event":"a","round":1}` + "\n" + `{"event":"b","round":2}` + "\n" + `{"event":"c","round":3}` + "\n" + `{"event":"d","rou`
	if err := os.WriteFile(path, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := openRecord(path, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.write(map[string]int{"round": 4}); err != nil {
		t.Fatal(err)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	want := `{"event":"a","round":1}` + "\n" + `{"event":"b","round":2}` + "\n" + `{"round":4}` + "\n"
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("the record holds\n%s\nwant\n%s (%v)", got, want, err)
	}
	if items, err := os.ReadDir(filepath.Dir(path)); err != nil || len(items) != 1 {
		t.Errorf("%v beside the record, %v", items, err)
	}
}

func TestARecordBegins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "metrics.jsonl")
	r, err := openRecord(path, 7)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() != 0 {
		t.Errorf("%v, %v", info, err)
	}
}
