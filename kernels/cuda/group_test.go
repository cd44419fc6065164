//go:build cuda && linux && amd64

package cuda

import (
	"fmt"
	"math"
	"testing"

	"loco/kernels"
	"loco/kernels/cuda/driver"
)

// The sum over GPUs is the host's, to the bit, call after call on the same vectors.
func TestGroupSumsAsTheHostDoes(t *testing.T) {
	if noDevice != "" {
		t.Skip(noDevice)
	}
	if list, err := driver.Devices(); err != nil || len(list) < 2 {
		t.Skipf("%d devices, %v", len(list), err)
	}
	for _, n := range []int{1, 1000, 4000, 9070} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			devices, peers, err := openAll([]int{0, 1}, kernels.FP32, 1024)
			if err != nil {
				t.Fatal(err)
			}
			host, _, err := OpenAll([]int{0, 1}, kernels.FP32)
			if err != nil {
				t.Fatal(err)
			}
			got, want := sums(t, devices, peers, n), sums(t, host, kernels.NewHostPeers(host), n)
			for k := range got {
				for i := range got[k] {
					if math.Float32bits(got[k][i]) != math.Float32bits(want[k][i]) {
						t.Fatalf("vector %d, value %d: %v, want %v", k, i, got[k][i], want[k][i])
					}
				}
			}
			for _, d := range append(devices, host...) {
				if err := d.(*Device).Err(); err != nil {
					t.Error(err)
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// sums returns the vectors after two rounds of reducing and gathering.
func sums(t *testing.T, devices []kernels.Device, peers kernels.Peers, n int) (all [][]float32) {
	t.Helper()
	var vectors []kernels.Buffer
	for k, d := range devices {
		v, err := d.Alloc(n)
		if err != nil {
			t.Fatal(err)
		}
		x := make([]float32, n)
		for i := range x {
			x[i] = 1 / float32(3+i%1000+7*k)
		}
		d.Upload(v, x)
		vectors, all = append(vectors, v), append(all, x)
	}
	for range 2 {
		peers.ReduceScatter(vectors)
		peers.AllGather(vectors)
	}
	for k, d := range devices {
		d.Download(all[k], vectors[k])
	}
	return all
}

// One lost GPU is an error on all of them: no replica goes on with a sum that lacks it.
func TestGroupKnowsALostMember(t *testing.T) {
	if noDevice != "" {
		t.Skip(noDevice)
	}
	if list, err := driver.Devices(); err != nil || len(list) < 2 {
		t.Skipf("%d devices, %v", len(list), err)
	}
	devices, peers, err := OpenAll([]int{0, 1}, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	lost := fmt.Errorf("test: %w", driver.ErrStuck)
	var vectors []kernels.Buffer
	for _, d := range devices {
		v, err := d.Alloc(1000)
		if err != nil {
			t.Fatal(err)
		}
		vectors = append(vectors, v)
	}
	devices[1].(*Device).failed(lost)
	peers.ReduceScatter(vectors)
	peers.AllGather(vectors)
	if err := devices[0].(*Device).Err(); !driver.IsLost(err) {
		t.Errorf("device 0 has the error %v", err)
	}
	for _, d := range devices {
		d.Close()
	}
}
