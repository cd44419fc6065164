package gossip

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"loco/gossip/transfer"
)

// partial is the file of an object that is being fetched: the length of its manifest (4
// bytes), the manifest, then the object with holes. What is in it is believed only where
// it has the hash of its chunk.
type partial struct {
	file *os.File
	base int64
}

const (
	partialPrefix = "fetch-"
	partialSuffix = ".part"
)

func partialPath(dir string, kind transfer.Kind, round uint64) string {
	name := "state"
	switch kind {
	case transfer.Moments:
		name = "moments"
	case transfer.Result:
		name = fmt.Sprintf("result-%d", round)
	}
	return filepath.Join(dir, partialPrefix+name+partialSuffix)
}

// loadPartial opens what an earlier fetch left, or returns nil.
func loadPartial(dir string, kind transfer.Kind, round uint64, limit uint64) (*transfer.Manifest, *partial) {
	if dir == "" {
		return nil, nil
	}
	f, err := os.OpenFile(partialPath(dir, kind, round), os.O_RDWR, 0)
	if err != nil {
		return nil, nil
	}
	m, err := readPartialHead(f, limit)
	if err != nil || m.Kind != kind || kind == transfer.Result && m.Round != round {
		_ = f.Close()
		return nil, nil
	}
	return m, &partial{f, 4 + int64(len(m.Append(nil)))}
}

func readPartialHead(r io.Reader, limit uint64) (*transfer.Manifest, error) {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(n[:])
	if size > transfer.ManifestMax {
		return nil, fmt.Errorf("manifest of %d bytes, at most %d are allowed", size, transfer.ManifestMax)
	}
	raw := make([]byte, size)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, err
	}
	return transfer.ParseManifest(raw, limit)
}

// openPartial opens the file of an object: with what is there of it, or empty.
func openPartial(dir string, o *object, limit uint64) (*partial, error) {
	if m, p := loadPartial(dir, o.Kind, o.Round, limit); p != nil {
		if m.ID() == o.id {
			return p, nil
		}
		p.close()
	}
	f, err := os.Create(partialPath(dir, o.Kind, o.Round))
	if err != nil {
		return nil, err
	}
	head := append(binary.LittleEndian.AppendUint32(nil, uint32(len(o.raw))), o.raw...)
	if _, err := f.Write(head); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &partial{f, int64(len(head))}, nil
}

func (p *partial) close() { _ = p.file.Close() }

// write stores a chunk that was verified. It may be lost in a crash of the machine, for
// it is verified again when it is read.
func (p *partial) write(m *transfer.Manifest, chunk int, b []byte) error {
	lo, _ := m.Span(chunk)
	_, err := p.file.WriteAt(b, p.base+int64(lo))
	return err
}

// scan calls have for each chunk that is whole.
func (p *partial) scan(m *transfer.Manifest, have func(chunk int, b []byte)) {
	buf := make([]byte, m.ChunkBytes)
	for i, sum := range m.Chunks {
		lo, hi := m.Span(i)
		b := buf[:hi-lo]
		if _, err := p.file.ReadAt(b, p.base+int64(lo)); err != nil {
			continue // a hole at the end
		}
		if sha256.Sum256(b) == sum {
			have(i, b)
		}
	}
}

// removePartials removes what fetches left.
func removePartials(dir string) error {
	if dir == "" {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), partialPrefix) && strings.HasSuffix(e.Name(), partialSuffix) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}
