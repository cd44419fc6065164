package swim

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"loco/mesh"
)

var goldenMessages = []struct {
	name    string
	message Message
	hex     string
}{
	{"ping", Message{Kind: Ping, Number: 0x0102}, "01" + "0201000000000000" + strings.Repeat("00", 12) + "00" + "00"},
	{"ask with rumors", Message{
		Kind: Ask, Number: 1, Incarnation: Incarnation{Life: 5, Refuted: 6}, Target: "ab",
		Rumors: []Rumor{{SaySuspect, "c", Incarnation{7, 8}}, {SayLeft, "", Incarnation{}}},
	}, "02" + "0100000000000000" + "0500000000000000" + "06000000" + "026162" + "02" +
		"02" + "0700000000000000" + "08000000" + "0163" + "04" + strings.Repeat("00", 12) + "00"},
}

func TestMessageGolden(t *testing.T) {
	for _, g := range goldenMessages {
		got := AppendMessage(nil, g.message)
		if hex.EncodeToString(got) != g.hex {
			t.Errorf("%s: encoded as\n%x, want\n%s", g.name, got, g.hex)
		}
		if back, err := ParseMessage(got); err != nil || !reflect.DeepEqual(back, g.message) {
			t.Errorf("%s: parsed as %+v, %v", g.name, back, err)
		}
	}
}

func TestParseMessageRefuses(t *testing.T) {
	ask := AppendMessage(nil, goldenMessages[1].message)
	edit := func(at int, v ...byte) []byte {
		b := bytes.Clone(ask)
		copy(b[at:], v)
		return b
	}
	for want, src := range map[string][]byte{
		"kind: 0, want 1 to 4":                edit(0, 0),
		"kind: 5, want 1 to 4":                edit(0, 5),
		`target: "ab" in a message of kind 1`: edit(0, 1),
		"target: cut short: 35 of 100":        append(edit(21, 100)[:22], make([]byte, 35)...),
		"target: not UTF-8":                   edit(22, 0xff),
		"rumors: 65, at most 64":              edit(24, 65),
		"rumor 0: say: 0, want 1 to 4":        edit(25, 0),
		"rumor 0: say: 5, want 1 to 4":        edit(25, 5),
		"1 bytes too many":                    append(bytes.Clone(ask), 0),
		"target: 129 bytes, at most 128":      append(edit(21, 129)[:22], make([]byte, 200)...),
		`target: "" in a message of kind 2`:   append(edit(21, 0)[:22], 0),
	} {
		if _, err := ParseMessage(src); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
	for n := range ask {
		if _, err := ParseMessage(ask[:n]); err == nil {
			t.Errorf("cut to %d of %d bytes is accepted", n, len(ask))
		}
	}
}

// What is over a limit is left out, so that one's own messages are never refused.
func TestMessageStaysWithinLimits(t *testing.T) {
	g := Message{Kind: Ask, Target: mesh.ID(strings.Repeat("t", maxIDBytes))}
	g.Rumors = append(g.Rumors, Rumor{Say: SayDead, Of: mesh.ID(strings.Repeat("x", maxIDBytes+1))})
	for range maxRumors + 5 {
		g.Rumors = append(g.Rumors, Rumor{Say: SayDead, Of: g.Target})
	}
	raw := AppendMessage(nil, g)
	if len(raw) != MaxMessageBytes {
		t.Errorf("the largest message has %d bytes, want %d", len(raw), MaxMessageBytes)
	}
	if back, err := ParseMessage(raw); err != nil || len(back.Rumors) != maxRumors {
		t.Errorf("%d rumors, %v", len(back.Rumors), err)
	}
}

func FuzzParseMessage(f *testing.F) {
	for _, g := range goldenMessages {
		f.Add(AppendMessage(nil, g.message))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		g, err := ParseMessage(src)
		if err != nil {
			return
		}
		if again := AppendMessage(nil, g); !bytes.Equal(again, src) {
			t.Errorf("%x parses as %+v, which is written %x", src, g, again)
		}
	})
}
