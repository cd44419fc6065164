package atomicfile_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"loco/checkpoint/atomicfile"
)

func ExampleCreate() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "settings")
	f, err := atomicfile.Create(path, 0o644)
	if err != nil {
		panic(err)
	}
	defer f.Abort() // does nothing after Commit
	io.WriteString(f, "rounds = 12\n")
	_, err = os.Stat(path)
	fmt.Println("visible before Commit:", err == nil)
	if err := f.Commit(); err != nil {
		panic(err)
	}
	text, err := os.ReadFile(path)
	fmt.Printf("%s%v\n", text, err)
	// Output:
	// visible before Commit: false
	// rounds = 12
	// <nil>
}
