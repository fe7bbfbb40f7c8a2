package provision

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/framework/sysctl"
)

// sysctlFile has the settings of the kernel that setup changes, for the next boot.
const sysctlFile = "/etc/sysctl.d/60-mailturn.conf"

const kernelTitle = "Kernel settings are adjusted for many calls"

// planKernel raises the settings of the kernel that docs/operating.md names, where they are too small and can be changed: in a
// container, some cannot.
func (p *planner) planKernel() {
	step := Step{Title: kernelTitle}
	settings := os.DirFS(p.m.path("/proc/sys"))
	var text strings.Builder
	text.WriteString("# Written by \"mailturn setup\": see \"Firewall and limits\" in docs/operating.md.\n")
	var reasons []string
	set := func(name, before, value, reason string) {
		path := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
		if !writable(p.m.path(path)) {
			return
		}
		fmt.Fprintf(&text, "%s = %s\n", name, value)
		step.Do = append(step.Do, setKernel(name, path, value).undoneBy("sh", "-c", "echo "+before+" >"+path))
		reasons = append(reasons, reason)
	}
	atLeast := func(name string, value int) {
		if now, ok := sysctl.Int(settings, name); ok && now < value {
			set(name, strconv.Itoa(now), strconv.Itoa(value), fmt.Sprintf("%s is %d", name, now))
		}
	}
	atLeast("net.core.rmem_max", turn.ReceiveBuffer)
	atLeast("net.core.wmem_max", turn.SendBuffer)
	low, high, _ := strings.Cut(p.Ports.Relayed, "-")
	from, _ := strconv.ParseUint(low, 10, 16)
	to, _ := strconv.ParseUint(high, 10, 16)
	if first, last, some := sysctl.Ephemeral(settings, uint16(from), uint16(to)); some {
		const name = "net.ipv4.ip_local_reserved_ports"
		reserved, _ := fs.ReadFile(settings, strings.ReplaceAll(name, ".", "/"))
		before := strings.TrimSpace(string(reserved))
		set(name, before, strings.TrimPrefix(before+","+p.Ports.Relayed, ","), fmt.Sprintf("other programs may get the relay's ports %d to %d", first, last))
	}
	if len(step.Do) == 0 {
		return
	}
	step.Files = []File{{Path: sysctlFile, Text: text.String(), Mode: 0o644, Group: -1}}
	p.Steps = append([]Step{step}, p.Steps...) // before mailturn opens its sockets
	p.decide(kernelTitle, joined(reasons))
}

// setKernel changes a setting of the running kernel.
func setKernel(name, path, value string) Action {
	return Action{Text: "set " + name + " to " + value, do: func(_ context.Context, m *Machine) error {
		return os.WriteFile(m.path(path), []byte(value+"\n"), 0o644)
	}}
}
