package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// recordLineMax bounds one line of metrics.jsonl when it is read back.
const recordLineMax = 1 << 20

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
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
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
	out, err := os.CreateTemp(filepath.Dir(path), ".metrics-*")
	if err != nil {
		return errors.Join(err, in.Close())
	}
	defer os.Remove(out.Name()) // gone already when all went well
	w := bufio.NewWriter(out)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, recordLineMax)
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
	err = errors.Join(lines.Err(), w.Flush(), out.Chmod(0o644), out.Close(), in.Close())
	if err != nil {
		return err
	}
	return os.Rename(out.Name(), path)
}

// writeJSON replaces a file by a value as indented JSON, whole or not at all.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return writeWhole(path, append(data, '\n'))
}

// writeWhole replaces a file, whole or not at all.
func writeWhole(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
