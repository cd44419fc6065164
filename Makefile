.PHONY: test race planted hunts fuzz fuzz-one mutants bench asm lint emulate e2e chaos cuda cuda-header cuda-test cuda-ptx gpu-check

test:
	go test ./...

race:
	go test -race ./...

# Builds each planted mistake, and runs the schedule that finds it.
planted:
	go test -count 1 -timeout 30m -run MutantsAreFound ./gossip/protosim ./mesh/swim -mutants

# Random schedules of the protocols, twice as many as go test runs; TIMES=20 hunts longer.
TIMES ?= 2
hunts:
	go test -count 1 -timeout 10h -run 'Random.*Schedules' ./gossip/protosim -schedules $$((2000 * $(TIMES))) \
		-pair-schedules $$((1000 * $(TIMES))) -flight-schedules $$((500 * $(TIMES)))
	go test -count 1 -timeout 10h -run Many ./mesh/swim -members $$((250 * $(TIMES)))

# Every fuzz target for a short while; TIME=5m searches longer.
TIME ?= 10s
fuzz:
	@for p in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$p | grep ^Fuzz); do \
			echo "$$p $$f"; $(MAKE) --no-print-directory fuzz-one P=$$p F=$$f TIME=$(TIME) || exit 1; \
		done; \
	done

# The go command sometimes calls the end of the time itself a failure ("context deadline exceeded") on a
# busy machine (golang.org/issue/75804): then the target runs again.
fuzz-one:
	@out=$$(go test -run '^$$' -fuzz '^$(F)$$' -fuzztime $(TIME) $(P) 2>&1) && exit 0; \
	if echo "$$out" | grep -q '^ *context deadline exceeded' && ! echo "$$out" | grep -q 'Failing input'; then \
		go test -run '^$$' -fuzz '^$(F)$$' -fuzztime $(TIME) $(P); \
	else echo "$$out"; exit 1; fi

# How much the tests of one package hold: N random mistakes, one at a time, by SEED.
# MUTANTS takes further flags, such as '-parallel 2' and '-also ./trainer'.
N ?= 40
mutants:
	go run ./tools/mutants -n $(N) $(if $(SEED),-seed $(SEED)) $(MUTANTS) $(P)

bench:
	go test -run '^$$' -bench . ./...

# The committed assembly is what its generator writes.
asm:
	go generate ./kernels/cpu
	git diff --exit-code -- kernels
	go test -C kernels/cpu/_asm ./...

# The kernels on processors that this machine is not, emulated by qemu-user: NEON, AVX2
# without AVX-512, and neither. Each run names the paths it must find. /proc/cpuinfo
# still shows this machine's processor, so no amd64 run compares with it.
EMULATE = CGO_ENABLED=0 GOOS=linux GOAMD64=v1 go test -short -count 1 -exec
HASWELL = qemu-x86_64 -cpu Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid
emulate:
	GOARCH=arm64 LOCO_REQUIRE_PATHS='NEON,Go with FMA,plain Go' $(EMULATE) qemu-aarch64 ./kernels ./kernels/cpu ./kernels/reference
	GOARCH=amd64 LOCO_REQUIRE_PATHS='AVX2,plain Go' $(EMULATE) '$(HASWELL)' \
		-run 'RequirePaths|Agree|Greatest|Turn|TestSameBits' ./kernels/cpu
	GOARCH=amd64 LOCO_REQUIRE_PATHS='plain Go' $(EMULATE) 'qemu-x86_64 -cpu Nehalem' \
		-run 'RequirePaths|TestSameBits|StepBits|Fuse|Exp|Log' ./kernels/cpu

lint:
	test -z "$$(gofmt -l .)"
	go vet ./...
	go vet -tags noasm ./...
	GOARCH=arm64 go vet ./kernels/... ./optim/... ./trainer/... ./worker/... ./cmd/loco/bench
	go run honnef.co/go/tools/cmd/staticcheck@v0.7.0 ./...

# Real processes over real libp2p; minutes.
e2e:
	go test -timeout 20m -count 1 -run E2E -skip Chaos ./cmd/loco -e2e

# Real processes in network namespaces, killed, stopped and cut off for 2 minutes, and two
# more runs of 20 s. Needs root on Linux, /dev/net/tun, and ip and tc of iproute2.
chaos:
	go test -timeout 20m -count 1 -v -run Namespace ./mesh/netem
	go test -timeout 20m -count 1 -v -run E2EChaos ./cmd/loco -e2e

# With CUDA, into build/. The one NVIDIA file that it needs is an installed toolkit's cuda.h or,
# without a toolkit, one from the system's packages; CUDA=FOLDER names a folder with another.
CUDA ?= $(firstword $(patsubst %/cuda.h,%,$(wildcard /usr/local/cuda/include/cuda.h /opt/cuda/include/cuda.h)) $(CURDIR)/build/cuda/include)
WITH_CUDA = CGO_ENABLED=1 CGO_CFLAGS='-O2 -I$(CURDIR)/kernels/cuda/driver/compat -I$(CUDA)'

cuda-header:
	test -s $(CUDA)/cuda.h || deploy/cuda-header.sh $(CUDA)

cuda: cuda-header
	$(WITH_CUDA) go build -tags cuda -o build/loco ./cmd/loco

# Every kernel and a training run, behind a stand-in for the driver: needs g++, and no GPU.
cuda-test: cuda-header
	$(WITH_CUDA) go vet -tags cuda ./...
	$(WITH_CUDA) go run honnef.co/go/tools/cmd/staticcheck@v0.7.0 -tags cuda ./kernels/cuda/... ./cmd/loco
	$(WITH_CUDA) go test -tags cuda ./kernels/cuda/driver/...
	$(WITH_CUDA) go test -tags cuda ./kernels/cuda -require-emulator
	$(WITH_CUDA) go test -tags cuda -run CUDA ./cmd/loco -require-emulator

# The committed PTX is what clang 14 makes of the kernels.
cuda-ptx:
	kernels/cuda/src/build.sh
	git diff --exit-code kernels/cuda/ptx

# A folder to copy to a machine with a GPU, and to run its run.sh there.
gpu-check: cuda
	mkdir -p build/gpu-check
	cp build/loco deploy/gpu-check/run.sh deploy/gpu-check/rates.py build/gpu-check/
	$(WITH_CUDA) go test -tags cuda -c -ldflags='-s -w' -trimpath -o build/gpu-check/kernels.test ./kernels/cuda
