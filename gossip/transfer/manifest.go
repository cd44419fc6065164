package transfer

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// Kind says what an object is.
type Kind uint8

// The objects that a source serves.
const (
	State   Kind = 1 + iota // φ and momentum after a round, in ddp the inner moments too
	Moments                 // one worker's inner moments
	Result                  // the encoded mean of a round: what takes its state to the next
)

// Limits of a manifest.
const (
	chunkBytesMin = 256 << 10
	chunkBytesMax = 16 << 20
	chunksAim     = 8192 // a larger object has larger chunks
	chunksMax     = 32768
	partsMax      = 16
	nameMax       = 64
	// ManifestMax bounds the bytes of a manifest.
	ManifestMax = manifestHead + partsMax*(2+nameMax+8+32) + 4 + 32*chunksMax

	manifestHead = 8 + 1 + 8 + 32 + 8 + 8 + 4 + 2
	magic        = "locoST02"
)

// Manifest describes an object: the parts' bytes one after the other, cut in chunks.
// Sources that hold the same bits have the same manifest.
type Manifest struct {
	Kind   Kind
	Round  uint64 // that starts from the state, or that the result is of
	Digest [32]byte
	// Tokens that all workers trained to get to the state; of a result, Σ of its weights.
	Tokens     float64
	Updates    uint64 // that the inner moments have seen
	ChunkBytes uint32
	Parts      []Part
	Chunks     [][32]byte // SHA-256 of each
}

// Part is a vector as little-endian float32, or a codec's bytes.
type Part struct {
	Name  string
	Bytes uint64
	Sum   [32]byte // [kernels.Digest] of its bytes
}

// Bytes is the length of the object.
func (m *Manifest) Bytes() (total uint64) {
	for _, p := range m.Parts {
		total += p.Bytes
	}
	return total
}

// Span returns where chunk i lies in the object.
func (m *Manifest) Span(i int) (lo, hi uint64) {
	lo = uint64(i) * uint64(m.ChunkBytes)
	return lo, min(lo+uint64(m.ChunkBytes), m.Bytes())
}

// ID identifies the manifest and with it every bit of the object.
func (m *Manifest) ID() [32]byte { return sha256.Sum256(m.Append(nil)) }

// ChunkBytes is the length of the chunks of an object: a power of two, at least 256 KiB,
// that makes 8192 chunks or fewer, at most 16 MiB.
func ChunkBytes(total uint64) uint32 {
	size := uint64(chunkBytesMin)
	for size < chunkBytesMax && total > size*chunksAim {
		size *= 2
	}
	return uint32(size)
}

// Append appends magic, kind (1 byte), round, digest, tokens, updates, bytes of a chunk
// (4), number of parts (2), for each part the length of its name (2), name, bytes (8) and
// SHA-256, then the number of chunks (4) and their SHA-256.
func (m *Manifest) Append(dst []byte) []byte {
	dst = append(append(dst, magic...), byte(m.Kind))
	dst = binary.LittleEndian.AppendUint64(dst, m.Round)
	dst = append(dst, m.Digest[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(m.Tokens))
	dst = binary.LittleEndian.AppendUint64(dst, m.Updates)
	dst = binary.LittleEndian.AppendUint32(dst, m.ChunkBytes)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(m.Parts)))
	for _, p := range m.Parts {
		dst = append(binary.LittleEndian.AppendUint16(dst, uint16(len(p.Name))), p.Name...)
		dst = binary.LittleEndian.AppendUint64(dst, p.Bytes)
		dst = append(dst, p.Sum[:]...)
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(m.Chunks)))
	for _, c := range m.Chunks {
		dst = append(dst, c[:]...)
	}
	return dst
}

// ParseManifest reads the manifest of an object of at most limit bytes.
func ParseManifest(p []byte, limit uint64) (*Manifest, error) {
	if len(p) < manifestHead || string(p[:8]) != magic {
		return nil, fmt.Errorf("manifest of %d bytes without its magic", len(p))
	}
	m := &Manifest{Kind: Kind(p[8]), Round: binary.LittleEndian.Uint64(p[9:]), Digest: [32]byte(p[17:49]),
		Tokens: math.Float64frombits(binary.LittleEndian.Uint64(p[49:])), Updates: binary.LittleEndian.Uint64(p[57:]),
		ChunkBytes: binary.LittleEndian.Uint32(p[65:])}
	parts := int(binary.LittleEndian.Uint16(p[69:]))
	switch {
	case m.Kind < State || m.Kind > Result:
		return nil, fmt.Errorf("manifest of kind %d, want 1 … 3", m.Kind)
	case !(m.Tokens >= 0) || math.IsInf(m.Tokens, 0):
		return nil, fmt.Errorf("manifest of %v tokens, want a finite number that is not negative", m.Tokens)
	case m.ChunkBytes < chunkBytesMin || m.ChunkBytes > chunkBytesMax || bits.OnesCount32(m.ChunkBytes) != 1:
		return nil, fmt.Errorf("manifest with chunks of %d bytes, want a power of two from %d to %d", m.ChunkBytes, chunkBytesMin, chunkBytesMax)
	case parts == 0 || parts > partsMax:
		return nil, fmt.Errorf("manifest of %d parts, want 1 … %d", parts, partsMax)
	}
	p = p[manifestHead:]
	var total uint64
	for range parts {
		n := -1
		if len(p) >= 2 {
			n = int(binary.LittleEndian.Uint16(p))
		}
		if n < 0 || n > nameMax || len(p) < 2+n+40 {
			return nil, fmt.Errorf("manifest is cut short, or a name has %d bytes of at most %d", n, nameMax)
		}
		part := Part{Name: string(p[2 : 2+n]), Bytes: binary.LittleEndian.Uint64(p[2+n:]), Sum: [32]byte(p[10+n : 42+n])}
		if p = p[42+n:]; part.Bytes > limit || total+part.Bytes > limit || m.Kind != Result && part.Bytes%4 != 0 {
			return nil, fmt.Errorf("manifest whose part %q has %d bytes: want float32 values, at most %d bytes in all", part.Name, part.Bytes, limit)
		}
		total += part.Bytes
		m.Parts = append(m.Parts, part)
	}
	want := (total + uint64(m.ChunkBytes) - 1) / uint64(m.ChunkBytes)
	if len(p) < 4 || want > chunksMax || uint64(binary.LittleEndian.Uint32(p)) != want || uint64(len(p)-4) != 32*want {
		return nil, fmt.Errorf("manifest with %d bytes after its parts, want %d chunks' hashes", len(p), want)
	}
	for p = p[4:]; len(p) > 0; p = p[32:] {
		m.Chunks = append(m.Chunks, [32]byte(p))
	}
	return m, nil
}
