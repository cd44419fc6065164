package transfer

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"loco/mesh/wire"
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
	partFixed     = 2 + 8 + 32
	// ManifestMax bounds the bytes of a manifest.
	ManifestMax = manifestHead + partsMax*(partFixed+nameMax) + 4 + 32*chunksMax

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
	dst = wire.AppendFloat64(dst, m.Tokens)
	dst = binary.LittleEndian.AppendUint64(dst, m.Updates)
	dst = binary.LittleEndian.AppendUint32(dst, m.ChunkBytes)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(m.Parts)))
	for _, p := range m.Parts {
		dst = wire.AppendText16(dst, p.Name)
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
	r := wire.Read(p)
	if got := string(r.Bytes("magic", len(magic))); got != magic {
		r.Fail("magic", "%q, want %q", got, magic)
	}
	m := &Manifest{Kind: readKind(r), Round: r.Uint64("round"), Digest: r.Sum("digest"), Tokens: readTokens(r), Updates: r.Uint64("updates"), ChunkBytes: r.Uint32("bytes of a chunk")}
	if m.ChunkBytes < chunkBytesMin || m.ChunkBytes > chunkBytesMax || bits.OnesCount32(m.ChunkBytes) != 1 {
		r.Fail("bytes of a chunk", "%d, want a power of two from %d to %d", m.ChunkBytes, chunkBytesMin, chunkBytesMax)
	}
	parts := r.Count16("parts", partsMax, partFixed)
	if parts == 0 {
		r.Fail("parts", "0, want 1 to %d", partsMax)
	}
	var total uint64
	r.Each("part", parts, func(int) {
		part := Part{Name: string(r.Bytes16("name", nameMax)), Bytes: r.Uint64("bytes"), Sum: r.Sum("digest")}
		if part.Bytes > limit || total+part.Bytes > limit || m.Kind != Result && part.Bytes%4 != 0 {
			r.Fail("bytes", "%q has %d: want float32 values, at most %d bytes in all", part.Name, part.Bytes, limit)
			return
		}
		total += part.Bytes
		m.Parts = append(m.Parts, part)
	})
	m.readChunks(r, total)
	if err := ended("manifest", r); err != nil {
		return nil, err
	}
	return m, nil
}

// readChunks reads the hashes of the chunks of an object of total bytes.
func (m *Manifest) readChunks(r *wire.Reader, total uint64) {
	n := uint64(r.Uint32("chunks"))
	if r.Err() != nil {
		return
	}
	want := (total + uint64(m.ChunkBytes) - 1) / uint64(m.ChunkBytes)
	if n != want || n > chunksMax {
		r.Fail("chunks", "%d, want %d, at most %d", n, want, chunksMax)
		return
	}
	r.Each("chunk", int(n), func(int) { m.Chunks = append(m.Chunks, r.Sum("digest")) })
}
