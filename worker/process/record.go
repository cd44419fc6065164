package process

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"loco/checkpoint/atomicfile"
)

// LineMax bounds one line of metrics.jsonl when it is read back.
const LineMax = 1 << 20

// recordMode lets other users of the machine read what a run tells.
const recordMode = 0o644

// record appends events to a worker's metrics.jsonl, one JSON object a line.
type record struct {
	path string
	f    *os.File
}

// openRecord opens the record for a worker that goes on from a round: lines of later
// rounds are dropped, because those rounds will be done again. So is a last line that
// a crash cut short.
func openRecord(path string, round uint64) (*record, error) {
	if err := trimRecord(path, round); err != nil {
		return nil, fmt.Errorf("trim the record: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, recordMode)
	if err != nil {
		return nil, fmt.Errorf("open the record: %w", err)
	}
	return &record{path: path, f: f}, nil
}

func (r *record) write(event any) error {
	line, err := json.Marshal(event)
	if err != nil {
		return fmt.Errorf("record %T: %w", event, err)
	}
	if _, err := r.f.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("record to %s: %w", r.path, err)
	}
	return nil
}

func (r *record) close() error { return r.f.Close() }

// trimRecord keeps the lines whose round is at most round.
func trimRecord(path string, round uint64) error {
	in, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	return atomicfile.Write(path, recordMode, func(w io.Writer) error {
		return errors.Join(copyRecord(w, in, round), in.Close()) // Windows renames over no open file
	})
}

// copyRecord copies the lines whose round is at most round.
func copyRecord(dst io.Writer, src io.Reader, round uint64) error {
	w := bufio.NewWriter(dst)
	lines := bufio.NewScanner(src)
	lines.Buffer(nil, LineMax)
	for lines.Scan() {
		var e struct {
			Round uint64 `json:"round"`
		}
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Round > round {
			continue
		}
		w.Write(lines.Bytes())
		w.WriteByte('\n')
	}
	return errors.Join(lines.Err(), w.Flush())
}

// WriteWhole replaces a file, whole or not at all.
func WriteWhole(path string, data []byte) error {
	if err := atomicfile.WriteFile(path, data, recordMode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
