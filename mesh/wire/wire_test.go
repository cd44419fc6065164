package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
)

// message has a field of every kind.
type message struct {
	u8     uint8
	u16    uint16
	u32    uint32
	u64    uint64
	number int
	float  float64
	sum    [32]byte
	on     bool
	flags  uint8
	short  string
	long   string
	raw    string
	bytes  []uint8
	words  []uint16
	inner  uint16
}

const (
	numberMax = 1000
	textMax   = 3
	listMax   = 4
)

func (m message) append(dst []byte) []byte {
	dst = append(dst, m.u8)
	dst = binary.LittleEndian.AppendUint16(dst, m.u16)
	dst = binary.LittleEndian.AppendUint32(dst, m.u32)
	dst = binary.LittleEndian.AppendUint64(dst, m.u64)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(m.number))
	dst = AppendFloat64(dst, m.float)
	dst = append(dst, m.sum[:]...)
	dst = AppendFlags(dst, m.on)
	dst = AppendFlags(dst, m.flags&1 != 0, m.flags&2 != 0, m.flags&4 != 0)
	dst = AppendText16(AppendText8(dst, m.short), m.long)
	dst = AppendText16(dst, m.raw)
	dst = append(append(dst, uint8(len(m.bytes))), m.bytes...)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(m.words)))
	for _, w := range m.words {
		dst = binary.LittleEndian.AppendUint16(dst, w)
	}
	return binary.LittleEndian.AppendUint16(append(dst, 2, 0), m.inner)
}

func parse(src []byte) (m message, err error) {
	r := Read(src)
	m = message{u8: r.Uint8("u8"), u16: r.Uint16("u16"), u32: r.Uint32("u32"), u64: r.Uint64("u64"), number: r.Max32("number", numberMax),
		float: r.Float64("float"), sum: r.Sum("sum"), on: r.Bool("on"), flags: r.Flags("flags", 7),
		short: r.Text8("short", textMax), long: r.Text16("long", textMax), raw: string(r.Bytes16("raw", textMax))}
	r.Each("byte", r.Count8("bytes", listMax, 1), func(int) { m.bytes = append(m.bytes, r.Uint8("value")) })
	r.Each("word", r.Count16("words", listMax, 2), func(int) { m.words = append(m.words, r.Uint16("value")) })
	r.Within("inner", r.Bytes16("inner", 4), func(in *Reader) { m.inner = in.Uint16("value") })
	return m, r.End()
}

func full() message {
	return message{u8: 1, u16: 0x0203, u32: 0x04050607, u64: 0x08090a0b0c0d0e0f, number: 1000, float: -2.5, sum: [32]byte{0x10, 31: 0x2f}, on: true,
		flags: 5, short: "abc", long: "é", raw: "\xff", bytes: []uint8{1, 2, 3, 4}, words: []uint16{5, 6, 7, 0x809}, inner: 0x3031}
}

// The fields of the full message, one a line.
var golden = []string{
	"01", "0302", "07060504", "0f0e0d0c0b0a0908", "e8030000", "00000000000004c0", "10" + strings.Repeat("00", 30) + "2f", "01",
	"05", "03616263", "0200c3a9", "0100ff", "0401020304", "04000500060007000908", "02003130",
}

func TestEveryField(t *testing.T) {
	src := full().append(nil)
	if got, want := hex.EncodeToString(src), strings.Join(golden, ""); got != want {
		t.Fatalf("written\n%s, want\n%s", got, want)
	}
	m, err := parse(src)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.append(nil); !bytes.Equal(got, src) {
		t.Errorf("read as %+v, which is written %x", m, got)
	}
	if m.number != 1000 || m.float != -2.5 || !m.on || m.short != "abc" || m.words[3] != 0x809 {
		t.Errorf("read as %+v", m)
	}
}

// Wherever a message ends early, the error names the field in which it does, and all
// later fields are zero.
func TestCutShort(t *testing.T) {
	names := []string{"u8", "u16", "u32", "u64", "number", "float", "sum", "on", "flags", "short", "long", "raw", "bytes", "words", "inner"}
	src := full().append(nil)
	at := 0
	for i, field := range golden {
		for n := at; n < at+len(field)/2; n++ {
			m, err := parse(src[:n])
			if err == nil || !strings.HasPrefix(err.Error(), names[i]+": cut short: ") {
				t.Errorf("%d of %d bytes: error %v, want one of %s", n, len(src), err, names[i])
			}
			if m.inner != 0 || i < 9 && (m.flags != 0 || m.short != "" || m.words != nil) {
				t.Errorf("%d of %d bytes are read as %+v", n, len(src), m)
			}
		}
		at += len(field) / 2
	}
}

func TestLimits(t *testing.T) {
	at := func(field int) int { return len(strings.Join(golden[:field], "")) / 2 }
	src := full().append(nil)
	edit := func(at int, v ...byte) []byte {
		b := bytes.Clone(src)
		copy(b[at:], v)
		return b
	}
	for _, c := range []struct {
		want string
		src  []byte
	}{
		{"number: 1001, at most 1000 is allowed", edit(at(4), 0xe9)},
		{"number: 4294967295, at most 1000 is allowed", edit(at(4), 0xff, 0xff, 0xff, 0xff)},
		{"on: 2, want 0 or 1", edit(at(7), 2)},
		{"flags: 00001000, this program knows 00000111", edit(at(8), 8)},
		{"short: 4 bytes, at most 3 are allowed", edit(at(9), 4)},
		{"short: not UTF-8", edit(at(9)+1, 0xff)},
		{"long: 4 bytes, at most 3 are allowed", edit(at(10), 4)},
		{"long: 258 bytes, at most 3 are allowed", edit(at(10), 2, 1)},
		{"long: not UTF-8", edit(at(10)+3, 'x')},
		{"raw: 4 bytes, at most 3 are allowed", edit(at(11), 4)},
		{"bytes: 5, at most 4 are allowed", edit(at(12), 5)},
		{"words: 5, at most 4 are allowed", edit(at(13), 5)},
		{"words: 260, at most 4 are allowed", edit(at(13), 4, 1)},
		{"inner: value: cut short: 1 of 2 bytes", edit(at(14), 1)},
		{"inner: 1 bytes too many", append(edit(at(14), 3), 0)},
		{"inner: 5 bytes, at most 4 are allowed", append(edit(at(14), 5), 0, 0, 0)},
		{"1 bytes too many", append(bytes.Clone(src), 0)},
	} {
		if _, err := parse(c.src); err == nil || err.Error() != c.want {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
}

// What is not allowed reads as zero, too.
func TestWhatIsRefusedIsZero(t *testing.T) {
	over := []byte{255, 255, 255, 255}
	for name, got := range map[string]int{
		"Max32": Read(over).Max32("x", 1), "Flags": int(Read(over).Flags("x", 1)), "Text8": len(Read(over).Text8("x", 1)), "Text16": len(Read(over).Text16("x", 1)),
		"Bytes16": len(Read(over).Bytes16("x", 1)), "Count8": Read(over).Count8("x", 1, 1), "Count16": Read(over).Count16("x", 1, 1),
		"Uint8": int(Read(nil).Uint8("x")), "Uint16": int(Read(over[:1]).Uint16("x")), "Uint32": int(Read(over[:3]).Uint32("x")), "Uint64": int(Read(over).Uint64("x")),
		"a list that is cut short": Read([]byte{2, 0, 0}).Count8("x", 9, 2), "text that is not UTF-8": len(Read([]byte{1, 255}).Text8("x", 1)),
	} {
		if got != 0 {
			t.Errorf("%s: %d", name, got)
		}
	}
}

func TestAppendFlags(t *testing.T) {
	for want, flags := range map[byte][]bool{0: {false, false}, 1: {true}, 2: {false, true}, 0x88: {false, false, false, true, false, false, false, true}} {
		if got := AppendFlags([]byte{7}, flags...); !bytes.Equal(got, []byte{7, want}) {
			t.Errorf("%v is written %x, want 07%02x", flags, got, want)
		}
	}
}

// An element's error carries its number and ends the list; the first error of all stays.
func TestEachNamesTheElement(t *testing.T) {
	r := Read([]byte{1, 0, 1, 2, 1})
	calls := 0
	r.Each("flag", 5, func(i int) {
		if calls != i {
			t.Errorf("call %d is for element %d", calls, i)
		}
		calls++
		r.Bool("value")
	})
	r.Fail("later", "no")
	r.Within("later", nil, func(*Reader) { t.Error("read after an error") })
	if err := r.End(); err == nil || err.Error() != "flag 3: value: 2, want 0 or 1" || !errors.Is(r.Err(), err) || calls != 4 {
		t.Errorf("error %v after %d calls", err, calls)
	}
	if r.Bytes("later", 0) == nil && r.Uint64("later") != 0 {
		t.Error("fields after an error are not zero")
	}
}

// What a field aliases cannot grow into the next one.
func TestBytesDoNotReachTheNextField(t *testing.T) {
	src := []byte("abcd")
	r := Read(src)
	b := r.Bytes("first", 2)
	_ = append(b, 'x')
	if string(src) != "abcd" || string(r.Bytes("second", 2)) != "cd" {
		t.Errorf("the message is now %q", src)
	}
}

// A length is not believed before the bytes are there.
func TestNothingIsAllocatedForWhatIsNotThere(t *testing.T) {
	src := []byte{0xff, 0xff, 1}
	if n := Read(src).Count16("list", math.MaxUint16, 2); n != 0 {
		t.Errorf("a list of %d elements in 1 byte", n)
	}
	if b := Read(src).Bytes16("bytes", math.MaxUint16); b != nil {
		t.Errorf("%d bytes in 1 byte", len(b))
	}
	var stats int
	_, err := ReadN(readerFunc(func(p []byte) (int, error) {
		stats = max(stats, len(p))
		return 0, io.EOF
	}), nil, 1<<30)
	if !errors.Is(err, io.ErrUnexpectedEOF) || stats != 64<<10 {
		t.Errorf("error %v, a buffer of %d bytes, want 64 KiB", err, stats)
	}
}

// The buffer grows with what has come: at most twice that is asked for at a time, and what
// append has rounded up.
func TestReadNGrowsWithWhatComes(t *testing.T) {
	came := 0
	got, err := ReadN(readerFunc(func(p []byte) (int, error) {
		if total := came + len(p); total > max(64<<10, came*5/2) {
			t.Errorf("after %d bytes it makes room for %d", came, total)
		}
		came += len(p)
		return len(p), nil
	}), nil, 1<<20)
	if err != nil || len(got) != 1<<20 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestReadN(t *testing.T) {
	src := make([]byte, 5*stepBytes+3)
	for i := range src {
		src[i] = byte(i * 7)
	}
	for _, n := range []int{0, 1, stepBytes - 1, stepBytes, stepBytes + 1, len(src) - 1, len(src)} {
		for _, buf := range [][]byte{nil, make([]byte, 10), make([]byte, 0, len(src)+1)} {
			in := bytes.NewReader(src)
			got, err := ReadN(iotest.OneByteReader(in), buf, n)
			if err != nil || !bytes.Equal(got, src[:n]) || in.Len() != len(src)-n {
				t.Errorf("%d bytes into %d: %d read, %d left, error %v", n, cap(buf), len(got), in.Len(), err)
			}
			if cap(buf) >= n && n > 0 && &got[0] != &buf[:1][0] {
				t.Errorf("%d bytes do not use the buffer of %d", n, cap(buf))
			}
		}
	}
	if _, err := ReadN(bytes.NewReader(src), nil, len(src)+1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a byte short: %v", err)
	}
	lost := errors.New("lost")
	if _, err := ReadN(iotest.ErrReader(lost), nil, 1); !errors.Is(err, lost) {
		t.Errorf("a lost stream: %v", err)
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		s    string
		n    int
		want string
	}{{"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"aéb", 2, "a"}, {"aéb", 3, "aé"}, {"é", 2, "é"}, {"", 0, ""}} {
		if got := Cut(c.s, c.n); got != c.want {
			t.Errorf("%q cut to %d is %q, want %q", c.s, c.n, got, c.want)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add(full().append(nil))
	f.Add(message{}.append(nil))
	f.Fuzz(func(t *testing.T, src []byte) {
		m, err := parse(src)
		if err == nil && !bytes.Equal(m.append(nil), src) {
			t.Errorf("%x is read as %+v, which is written %x", src, m, m.append(nil))
		}
	})
}
