package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

const (
	formatVersion    = 1
	manifestBytesMax = 16 << 20

	manifestFile = "manifest.json"
	modelFile    = "model.safetensors"
	stateFile    = "state.safetensors"
)

// Manifest is what a checkpoint says about itself.
type Manifest struct {
	Format int               `json:"format"`
	Round  uint64            `json:"round"`
	Step   uint64            `json:"step"`
	Tokens uint64            `json:"tokens"`
	Worker int               `json:"worker"`
	Meta   map[string]string `json:"meta"`
	Files  []File            `json:"files"`
	SHA256 string            `json:"sha256"` // of this text with the field empty
}

// File is one file of a checkpoint.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Bytes is the size of the checkpoint's files without the manifest.
func (m *Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// encode returns the manifest's text, sealed with its own hash.
func (m Manifest) encode() ([]byte, error) {
	m.SHA256 = ""
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	m.SHA256 = hex.EncodeToString(sum[:])
	if text, err = json.MarshalIndent(m, "", "  "); err != nil {
		return nil, err
	}
	text = append(text, '\n')
	if len(text) > manifestBytesMax {
		return nil, fmt.Errorf("manifest of %d bytes, at most %d are allowed; put less in meta", len(text), manifestBytesMax)
	}
	return text, nil
}

// parseManifest accepts exactly the text that encode writes, so that any flipped bit is
// found. The reason that it returns is "" when all is well.
func parseManifest(text []byte) (m Manifest, reason string) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return Manifest{}, "JSON: " + err.Error()
	}
	if m.Format != formatVersion {
		return Manifest{}, fmt.Sprintf("format %d, this loco reads %d", m.Format, formatVersion)
	}
	again, err := m.encode()
	if err != nil {
		return Manifest{}, "JSON: " + err.Error()
	}
	if !bytes.Equal(text, again) {
		return Manifest{}, "hash: is not the text that was written"
	}
	if len(m.Files) != 2 || m.Files[0].Name != modelFile || m.Files[1].Name != stateFile {
		return Manifest{}, "files: must be " + modelFile + " and " + stateFile
	}
	for _, f := range m.Files {
		if f.Size < 0 || len(f.SHA256) != 2*sha256.Size {
			return Manifest{}, fmt.Sprintf("files: %s has size %d and SHA-256 %.80q", f.Name, f.Size, f.SHA256)
		}
	}
	return m, ""
}
