package wire_test

import (
	"fmt"

	"loco/mesh/wire"
)

func Example() {
	msg := wire.AppendText8(wire.AppendFlags(nil, true), "loss")

	read := func(src []byte) (ready bool, name string, err error) {
		r := wire.Read(src)
		ready, name = r.Bool("ready"), r.Text8("name", 16)
		return ready, name, r.End()
	}
	fmt.Println(read(msg))
	fmt.Println(read(msg[:3]))
	// Output:
	// true loss <nil>
	// true  name: cut short: 1 of 4 bytes
}
