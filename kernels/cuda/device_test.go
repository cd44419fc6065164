//go:build cuda && linux && amd64

package cuda

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"loco/kernels"
	"loco/kernels/cuda/driver"
	"loco/kernels/cuda/emulator"
)

var (
	gpu     = flag.Bool("gpu", false, "test on this machine's GPU 0 instead of the emulator")
	require = flag.Bool("require-emulator", false, "fail where the emulator cannot be built, instead of skipping")
	library = flag.String("emulator", "", "path of an emulator that is built already")
	slabs   = flag.Bool("slabs", true, "let the arena take memory in slabs; without, what lies behind a buffer is no one's")
)

// noDevice is why there is nothing to test on, or "".
var noDevice string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if *gpu {
		if err := driver.Load(""); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}
	folder, err := os.MkdirTemp("", "emulator")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	path := *library
	if path == "" {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		path, err = emulator.Build(ctx, folder, emulator.Options{})
	}
	if errors.Is(err, emulator.ErrNoCompiler) && !*require {
		noDevice = err.Error()
		fmt.Fprintln(os.Stderr, "NOT TESTED on any device:", noDevice)
		return m.Run()
	}
	if err == nil {
		err = driver.Load(path)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// device opens one that multiplies with its own kernels, also where there is cuBLAS. It is closed
// with the test, if not before: the emulator reports bank conflicts when a device ends.
func device(t testing.TB, precision kernels.Precision) *Device {
	t.Helper()
	if noDevice != "" {
		t.Skip(noDevice)
	}
	d, err := open(0, precision, noBlas)
	if err != nil {
		t.Fatal(err)
	}
	if !*slabs {
		d.slabBytes = 0
	}
	t.Cleanup(func() {
		if d.driver == nil {
			return
		}
		if err := d.Err(); err != nil {
			t.Errorf("the device: %v", err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}
