package checkpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"
)

// The safetensors format, as far as loco writes and reads it:
//
//	8 bytes   length n of the header, little-endian
//	n bytes   JSON: {"__metadata__":{...},"name":{"dtype":"F32","shape":[..],"data_offsets":[from,to]},...},
//	          padded with spaces so that the data starts at a multiple of 8
//	rest      values, little-endian; offsets count from here and leave no gap
//
// Names are sorted, so equal tensors are equal bytes.

const (
	headerBytesMax = 100 << 20
	dimensionsMax  = 32
	nameBytesMax   = 1024
	chunkValues    = 16 << 10 // values converted at once
	metadataKey    = "__metadata__"
)

func checkVectors(vectors []Vector) error {
	seen := map[string]bool{}
	for _, v := range vectors {
		switch {
		case v.Name == "" || v.Name == metadataKey || len(v.Name) > nameBytesMax || !utf8.ValidString(v.Name):
			return fmt.Errorf("tensor name %.80q: must be 1 to %d bytes of UTF-8 and not %s", v.Name, nameBytesMax, metadataKey)
		case seen[v.Name]:
			return fmt.Errorf("tensor %q is there twice", v.Name)
		}
		seen[v.Name] = true
		n, err := product(v.Shape)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", v.Name, err)
		}
		if n != int64(len(v.Data)) {
			return fmt.Errorf("tensor %q: shape %v has %d values, its data has %d", v.Name, v.Shape, n, len(v.Data))
		}
	}
	return nil
}

// product multiplies a shape, bounded so that the bytes fit an int64.
func product(shape []int) (int64, error) {
	if len(shape) > dimensionsMax {
		return 0, fmt.Errorf("%d dimensions, at most %d are allowed", len(shape), dimensionsMax)
	}
	n := int64(1)
	for _, d := range shape {
		if d < 0 || d > 0 && n > math.MaxInt64/8/int64(d) {
			return 0, fmt.Errorf("shape %v: a dimension is negative or their product is too large", shape)
		}
		n *= int64(d)
	}
	return n, nil
}

type tensorInfo struct {
	DType   string   `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// layoutTensors returns the vectors in file order and the bytes in front of the data.
func layoutTensors(vectors []Vector, meta map[string]string) (sorted []Vector, head []byte, err error) {
	if err := checkVectors(vectors); err != nil {
		return nil, nil, err
	}
	sorted = slices.Clone(vectors)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].Name < sorted[j].Name })
	var b bytes.Buffer
	b.Write(make([]byte, 8))
	b.WriteByte('{')
	if len(meta) > 0 {
		text, err := json.Marshal(meta) // sorts the keys
		if err != nil {
			return nil, nil, err
		}
		b.WriteString(`"` + metadataKey + `":`)
		b.Write(text)
	}
	offset := int64(0)
	for _, v := range sorted {
		if b.Len() > 9 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(v.Name)
		if err != nil {
			return nil, nil, err
		}
		end := offset + 4*int64(len(v.Data))
		shape := v.Shape
		if shape == nil {
			shape = []int{} // [] and not null
		}
		info, err := json.Marshal(tensorInfo{"F32", shape, [2]int64{offset, end}})
		if err != nil {
			return nil, nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(info)
		offset = end
	}
	b.WriteByte('}')
	b.WriteString(strings.Repeat(" ", -b.Len()&7))
	head = b.Bytes()
	if len(head)-8 > headerBytesMax {
		return nil, nil, fmt.Errorf("safetensors: header of %d bytes, at most %d are allowed", len(head)-8, headerBytesMax)
	}
	binary.LittleEndian.PutUint64(head, uint64(len(head)-8))
	return sorted, head, nil
}

// tensorBytes is the size of the file that WriteTensors writes.
func tensorBytes(vectors []Vector, meta map[string]string) (int64, error) {
	_, head, err := layoutTensors(vectors, meta)
	n := int64(len(head))
	for _, v := range vectors {
		n += 4 * int64(len(v.Data))
	}
	return n, err
}

// WriteTensors writes vectors as a safetensors file, with meta as its metadata
// (Hugging Face's loaders want {"format": "pt"}).
func WriteTensors(w io.Writer, vectors []Vector, meta map[string]string) error {
	sorted, head, err := layoutTensors(vectors, meta)
	if err != nil {
		return err
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	chunk := make([]byte, 4*chunkValues)
	for _, v := range sorted {
		for data := v.Data; len(data) > 0; {
			n := min(len(data), chunkValues)
			for i, x := range data[:n] {
				binary.LittleEndian.PutUint32(chunk[4*i:], math.Float32bits(x))
			}
			if _, err := w.Write(chunk[:4*n]); err != nil {
				return err
			}
			data = data[n:]
		}
	}
	return nil
}

// ReadTensors reads a safetensors file of F32 tensors that is size bytes long. It
// returns them sorted by name. It is strict: offsets in range, no gap, no overlap, no
// second tensor of a name, nothing after the last; and it allocates no more than size
// calls for.
func ReadTensors(r io.Reader, size int64) ([]Vector, map[string]string, error) {
	var length [8]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, nil, fmt.Errorf("safetensors: header length: %w", err)
	}
	n := binary.LittleEndian.Uint64(length[:])
	if n > headerBytesMax || size < 8 || n > uint64(size-8) {
		return nil, nil, fmt.Errorf("safetensors: header of %d bytes in a file of %d; at most %d are allowed", n, size, headerBytesMax)
	}
	header := make([]byte, n)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, nil, fmt.Errorf("safetensors: header: %w", err)
	}
	tensors, meta, err := parseHeader(header)
	if err != nil {
		return nil, nil, fmt.Errorf("safetensors: header: %w", err)
	}
	if err := checkOffsets(tensors, size-8-int64(n)); err != nil {
		return nil, nil, fmt.Errorf("safetensors: %w", err)
	}
	chunk := make([]byte, 4*chunkValues)
	vectors := make([]Vector, len(tensors))
	for i, t := range tensors {
		data := make([]float32, (t.Offsets[1]-t.Offsets[0])/4)
		if err := readFloats(r, data, chunk); err != nil {
			return nil, nil, fmt.Errorf("safetensors: data of %q: %w", t.name, err)
		}
		vectors[i] = Vector{t.name, t.Shape, data}
	}
	sort.Slice(vectors, func(i, j int) bool { return vectors[i].Name < vectors[j].Name })
	return vectors, meta, nil
}

func readFloats(r io.Reader, dst []float32, chunk []byte) error {
	for len(dst) > 0 {
		n := min(len(dst), len(chunk)/4)
		if _, err := io.ReadFull(r, chunk[:4*n]); err != nil {
			return err
		}
		for i := range n {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(chunk[4*i:]))
		}
		dst = dst[n:]
	}
	return nil
}

type namedTensor struct {
	name string
	tensorInfo
}

// parseHeader reads the header's JSON token by token, because a decoder into a map
// would let the second of two equal names win in silence.
func parseHeader(header []byte) ([]namedTensor, map[string]string, error) {
	d := json.NewDecoder(bytes.NewReader(header))
	d.DisallowUnknownFields()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, nil, errors.Join(errors.New("is not a JSON object"), err)
	}
	var tensors []namedTensor
	var meta map[string]string
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, nil, err
		}
		name, ok := token.(string)
		if !ok || name == "" || len(name) > nameBytesMax || seen[name] {
			return nil, nil, fmt.Errorf("name %.80q is empty, too long or there twice", fmt.Sprint(token))
		}
		seen[name] = true
		if name == metadataKey {
			if err := d.Decode(&meta); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", metadataKey, err)
			}
			continue
		}
		t := namedTensor{name: name}
		if err := d.Decode(&t.tensorInfo); err != nil {
			return nil, nil, fmt.Errorf("tensor %q: %w", name, err)
		}
		tensors = append(tensors, t)
	}
	if _, err := d.Token(); err != nil {
		return nil, nil, err
	}
	if rest := bytes.Trim(header[d.InputOffset():], " "); len(rest) > 0 {
		return nil, nil, fmt.Errorf("%d bytes after the JSON object", len(rest))
	}
	return tensors, meta, nil
}

// checkOffsets sorts tensors by their place in the file and makes sure that they fill
// its dataBytes exactly.
func checkOffsets(tensors []namedTensor, dataBytes int64) error {
	sort.SliceStable(tensors, func(i, j int) bool {
		a, b := tensors[i].Offsets, tensors[j].Offsets
		return a[0] < b[0] || a[0] == b[0] && a[1] < b[1] // empty tensors first
	})
	end := int64(0)
	for _, t := range tensors {
		n, err := product(t.Shape)
		switch {
		case err != nil:
			return fmt.Errorf("tensor %q: %w", t.name, err)
		case t.DType != "F32":
			return fmt.Errorf("tensor %q: dtype %q, only F32 is read here", t.name, t.DType)
		case t.Shape == nil:
			return fmt.Errorf("tensor %q has no shape", t.name)
		case t.Offsets[0] != end || t.Offsets[1] < end || t.Offsets[1] > dataBytes:
			return fmt.Errorf("tensor %q: offsets %v leave a gap, overlap or end after the file's %d bytes of data", t.name, t.Offsets, dataBytes)
		case t.Offsets[1]-t.Offsets[0] != 4*n:
			return fmt.Errorf("tensor %q: shape %v is %d bytes, its offsets are %v", t.name, t.Shape, 4*n, t.Offsets)
		}
		end = t.Offsets[1]
	}
	if end != dataBytes {
		return fmt.Errorf("%d bytes after the last tensor", dataBytes-end)
	}
	return nil
}
