package checkpoint

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
)

// tensorFile is a safetensors file of that header, padded, and so many zero bytes.
func tensorFile(header string, dataBytes int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, dataBytes)...)
}

func TestRefusedTensorFiles(t *testing.T) {
	one := func(fields string) string { return `{"a":{"dtype":"F32",` + fields + `}}` }
	dims := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("1,", n), ",") + "]" }
	for _, c := range []struct {
		want string // "" is accepted
		file []byte
	}{
		{"", tensorFile(one(`"shape":[2,1],"data_offsets":[0,8]`), 8)},
		{"", tensorFile(`{}`, 0)},
		{"", tensorFile(`{}  `, 0)},
		{"", tensorFile(`{"__metadata__":{"k":"v"}}`, 0)},
		{"", tensorFile(one(`"shape":[],"data_offsets":[0,4]`), 4)},
		{"", tensorFile(one(`"shape":`+dims(32)+`,"data_offsets":[0,4]`), 4)},
		{"", tensorFile(`{"`+strings.Repeat("n", 1024)+`":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}`, 0)},
		{"", tensorFile(`{"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"e":{"dtype":"F32","shape":[0],"data_offsets":[4,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 8)},
		{"header length: EOF", nil},
		{"header length: unexpected EOF", []byte("1234567")},
		{"header of 2 bytes in a file of 9", tensorFile(`{}`, 0)[:9]},
		{"header of 104857601 bytes", binary.LittleEndian.AppendUint64(nil, headerBytesMax+1)},
		{"header of 18446744073709551615 bytes", binary.LittleEndian.AppendUint64(nil, math.MaxUint64)},
		{"is not a JSON object", tensorFile(`[]`, 0)},
		{"is not a JSON object", tensorFile(``, 0)},
		{"1 bytes after the JSON object", tensorFile(`{} x`, 0)},
		{"EOF", tensorFile(`{`, 0)},
		{"is empty, too long or there twice", tensorFile(`{"":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}`, 0)},
		{"is empty, too long or there twice", tensorFile(`{"`+strings.Repeat("n", 1025)+`":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}`, 0)},
		{`name "a" is empty, too long or there twice`, tensorFile(`{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}`, 0)},
		{"__metadata__: json", tensorFile(`{"__metadata__":[]}`, 0)},
		{`tensor "a": json: unknown field`, tensorFile(one(`"shape":[0],"data_offsets":[0,0],"more":1`), 0)},
		{`tensor "a": dtype "F16", only F32`, tensorFile(`{"a":{"dtype":"F16","shape":[1],"data_offsets":[0,4]}}`, 4)},
		{`tensor "a" has no shape`, tensorFile(one(`"data_offsets":[0,4]`), 4)},
		{`tensor "a": 33 dimensions, at most 32`, tensorFile(one(`"shape":`+dims(33)+`,"data_offsets":[0,4]`), 4)},
		{"a dimension is negative", tensorFile(one(`"shape":[-1],"data_offsets":[0,4]`), 4)},
		{"their product is too large", tensorFile(one(`"shape":[1073741824,1073741825],"data_offsets":[0,4]`), 4)},
		{"shape [2] is 8 bytes, its offsets are [0 4]", tensorFile(one(`"shape":[2],"data_offsets":[0,4]`), 4)},
		{"offsets [4 8] leave a gap", tensorFile(one(`"shape":[1],"data_offsets":[4,8]`), 8)},
		{"offsets [-4 0] leave a gap", tensorFile(one(`"shape":[1],"data_offsets":[-4,0]`), 4)},
		{"offsets [0 -4] leave a gap", tensorFile(one(`"shape":[1],"data_offsets":[0,-4]`), 4)},
		{"end after the file's 3 bytes", tensorFile(one(`"shape":[1],"data_offsets":[0,4]`), 3)},
		{"4 bytes after the last tensor", tensorFile(one(`"shape":[1],"data_offsets":[0,4]`), 8)},
		{"overlap", tensorFile(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4)},
	} {
		_, _, err := ReadTensors(bytes.NewReader(c.file), int64(len(c.file)))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%.80q: %v, want %q", c.file, err, c.want)
		}
	}
	// The limits hold whatever the size says.
	for _, c := range []struct{ length, size uint64 }{{headerBytesMax + 1, 1 << 40}, {2, 9}, {0, 7}, {2, 0}} {
		file := append(binary.LittleEndian.AppendUint64(nil, c.length), "{}"...)
		want := fmt.Sprintf("header of %d bytes in a file of %d;", c.length, c.size)
		if _, _, err := ReadTensors(bytes.NewReader(file), int64(c.size)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	// A file that ends before its size.
	whole := tensorFile(one(`"shape":[1],"data_offsets":[0,4]`), 4)
	for n, want := range map[int]string{len(whole) - 1: `data of "a": unexpected EOF`, len(whole) - 4: `data of "a": EOF`, len(whole) - 5: "header: unexpected EOF"} {
		if _, _, err := ReadTensors(bytes.NewReader(whole[:n]), int64(len(whole))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d of %d bytes: %v, want %q", n, len(whole), err, want)
		}
	}
}

func TestTensorsComeSorted(t *testing.T) {
	file := tensorFile(`{"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8)
	file[len(file)-1], file[len(file)-2] = 0x3f, 0x80
	vectors, meta, err := ReadTensors(bytes.NewReader(file), int64(len(file)))
	if err != nil || meta != nil || len(vectors) != 2 || vectors[0].Name != "a" || vectors[0].Data[0] != 1 || vectors[1].Data[0] != 0 {
		t.Errorf("%+v, %v, %v", vectors, meta, err)
	}
}

func TestRefusedVectors(t *testing.T) {
	one := []float32{1}
	for _, c := range []struct {
		want string
		v    Vector
	}{
		{"", Vector{strings.Repeat("n", 1024), nil, one}},
		{"must be 1 to 1024", Vector{strings.Repeat("n", 1025), nil, one}},
		{"must be 1 to 1024", Vector{"", nil, one}},
		{"must be 1 to 1024", Vector{"__metadata__", nil, one}},
		{"must be 1 to 1024", Vector{"\xff", nil, one}},
		{"", Vector{"a", make([]int, 32), nil}},
		{`tensor "a": 33 dimensions`, Vector{"a", make([]int, 33), nil}},
		{"is negative", Vector{"a", []int{-1}, one}},
		{"has 1 values, its data has 0", Vector{"a", nil, nil}},
		{"has 0 values, its data has 1", Vector{"a", []int{5, 0}, one}},
	} {
		var b bytes.Buffer
		err := WriteTensors(&b, []Vector{c.v}, nil)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || b.Len() > 0) {
			t.Errorf("%.20q %v: %v, want %q", c.v.Name, c.v.Shape, err, c.want)
		}
		n, sizeErr := tensorBytes([]Vector{c.v}, nil)
		if (sizeErr == nil) != (c.want == "") || err == nil && n != int64(b.Len()) {
			t.Errorf("%.20q: %d bytes, %d are written (%v)", c.v.Name, n, b.Len(), sizeErr)
		}
	}
	for _, c := range []struct {
		shape []int
		want  int64 // -1 is refused
	}{
		{nil, 1}, {[]int{0}, 0}, {[]int{3, 4}, 12}, {[]int{math.MaxInt64 / 8}, math.MaxInt64 / 8}, {[]int{math.MaxInt64/8 + 1}, -1},
		{[]int{1 << 30, 1 << 30}, -1}, {[]int{-1}, -1}, {[]int{0, -1}, -1}, {[]int{math.MaxInt, 0}, -1},
	} {
		n, err := product(c.shape)
		if (err == nil) != (c.want >= 0) || err == nil && n != c.want {
			t.Errorf("%v: %d, %v, want %d", c.shape, n, err, c.want)
		}
	}
}

func TestRefusedManifests(t *testing.T) {
	good := func() Manifest {
		return Manifest{Format: 1, Files: []File{{modelFile, 0, strings.Repeat("0", 64)}, {stateFile, 2, strings.Repeat("f", 64)}}}
	}
	for want, change := range map[string]func(*Manifest){
		"":                           func(*Manifest) {},
		"format 0, this loco":        func(m *Manifest) { m.Format = 0 },
		"must be model.safetensors":  func(m *Manifest) { m.Files = m.Files[:1] },
		"and state.safetensors":      func(m *Manifest) { m.Files = append(m.Files, m.Files[0]) },
		"files: must be":             func(m *Manifest) { m.Files[0].Name = "x" },
		"must be":                    func(m *Manifest) { m.Files[1].Name = "../x" },
		"has size -1":                func(m *Manifest) { m.Files[0].Size = -1 },
		"state.safetensors has size": func(m *Manifest) { m.Files[1].SHA256 = "ff" },
	} {
		m := good()
		change(&m)
		text, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, reason := parseManifest(text); want == "" && reason != "" || !strings.Contains(reason, want) || reason != "" && got.Files != nil {
			t.Errorf("%+v: %q, want %q", m, reason, want)
		}
	}
	text, err := good().encode()
	if err != nil {
		t.Fatal(err)
	}
	for want, bad := range map[string]string{
		"hash: is not the text": strings.Replace(string(text), `"round": 0`, `"round": 1`, 1),
		"JSON: unexpected EOF":  string(text[:len(text)-3]),
		`JSON: json: unknown`:   strings.Replace(string(text), `"round"`, `"rounds"`, 1),
	} {
		if _, reason := parseManifest([]byte(bad)); !strings.Contains(reason, want) {
			t.Errorf("%q, want %q", reason, want)
		}
	}
	// The largest is written and read, and one byte more is neither.
	for extra, ok := range map[int]bool{0: true, 1: false} {
		m := good()
		m.Meta = map[string]string{"k": ""}
		text, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		m.Meta["k"] = strings.Repeat("x", manifestBytesMax-len(text)+extra)
		text, err = m.encode()
		if (err == nil) != ok || err == nil && len(text) != manifestBytesMax || err != nil && !strings.Contains(err.Error(), fmt.Sprintf("manifest of %d bytes", manifestBytesMax+1)) {
			t.Errorf("%d more: %d bytes, %v", extra, len(text), err)
		}
	}
}
