package turnsrv

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// workersVar, if set in the environment, is Config.Workers in the tests of this package that do not set it themselves.
const workersVar = "TURNSRV_WORKERS"

// testWorkers returns the value of workersVar, or 0.
func testWorkers(t testing.TB) int {
	t.Helper()
	value := os.Getenv(workersVar)
	if value == "" {
		return 0
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		t.Fatalf("%s: %v", workersVar, err)
	}
	return n
}

// onWorkersOnly matches tests that goroutines cannot pass, because they do not know the destination address of a datagram, or cannot
// hand calls over.
const onWorkersOnly = "TestT35AnswersFromTheAddressAsked|TestT35AddressesAreApart|TestDTLSAnswersFromTheAddressAsked|" +
	"TestHandOver\\w*|TestFailedHandOver\\w*"

// long matches tests that take half a minute and do the same on all workers.
const long = "TestKernelPathChurn|TestKernelPathProcess"

// TestOtherWorkers runs the tests of this package on goroutines, as on systems without event loops, and on several workers, as on
// a machine with many processors.
func TestOtherWorkers(t *testing.T) {
	if os.Getenv(workersVar) != "" || onPlainPion() {
		return // this is one of those runs
	}
	for _, run := range []struct{ name, workers, skip string }{
		{"on goroutines", "-1", "|" + onWorkersOnly},
		{"on three workers", "3", ""},
	} {
		t.Run(run.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.count=1",
				"-test.skip=^(TestOtherWorkers|TestRowsFailOnPlainPion|"+long+run.skip+")$")
			cmd.Env = append(os.Environ(), workersVar+"="+run.workers)
			if output, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, output)
			}
		})
	}
}

// TestStreamsUseAllWorkers connects several times to one listener: each worker gets connections.
func TestStreamsUseAllWorkers(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there are no workers on this system")
	}
	config := testConfig(t)
	config.Workers = 3
	server := startServer(t, config)
	for range 12 {
		c := dial(t, "tcp", server.tcp)
		c.unsigned(stun.MethodBinding)
		c.allocate()
		c.want(c.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
	}
	for i, l := range server.started().group.Loops() {
		if got := l.Counts().Packets; got == 0 {
			t.Errorf("worker %d has done nothing", i)
		}
	}
}
