package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// image is what a Dockerfile makes.
type image struct {
	root                     string
	user, group              string
	environment              []string
	entrypoint, cmd, healthy []string
}

// A stage of a build is a directory with the files that it has beyond those that it is built on.
type stage struct {
	files, work string // work is overlayfs's; empty for a stage from scratch
	dir         string // where its commands run
}

// inStage makes the files of this machine ($1), with those of the stage over them, the root of a shell that runs the command ($5) in a
// directory ($4), without a network. Go's caches ($6 and on) are this machine's.
const inStage = `root=$1/root; mkdir -p "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$2,workdir=$3" "$root"
mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"
rm -rf "$root"/etc/apt/sources.list* "$root"/var/lib/apt/lists/* # what is installed is as new as can be
command=$5 dir=$4; shift 5
for cache in "$@"; do mkdir -p "$root$cache"; mount --bind "$cache" "$root$cache"; done
export DEBIAN_FRONTEND=noninteractive GOPROXY=off GOTOOLCHAIN=local
exec chroot "$root" sh -ec "cd $dir; $command"`

// buildImage follows the instructions of the Dockerfile, with this machine in place of the image that it starts from: that has the same
// Debian packages. Other instructions than those below are an error.
func buildImage(t *testing.T, dockerfile, context string) image {
	t.Helper()
	needRoot(t, "building an image")
	peer(t, "setcap", "libcap2-bin")
	text, err := os.ReadFile(filepath.Join(context, dockerfile))
	if err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	list := func(arguments string) (words []string) {
		t.Helper()
		if err := json.Unmarshal([]byte(arguments), &words); err != nil {
			t.Fatalf("%q is no list, and there is no shell: %v", arguments, err)
		}
		return words
	}
	goVariables, err := exec.Command("go", "env", "GOROOT", "GOMODCACHE", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	var result image
	var last stage
	stages := make(map[string]stage)
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		instruction, arguments, _ := strings.Cut(line, " ")
		words := strings.Fields(arguments)
		switch instruction {
		case "FROM":
			last = stage{files: t.TempDir(), dir: "/"}
			if err := os.Chmod(last.files, 0o755); err != nil {
				t.Fatal(err)
			}
			if words[0] != "scratch" {
				last.work = t.TempDir()
			}
			if len(words) == 3 {
				stages[words[2]] = last
			}
			result = image{root: last.files}
		case "WORKDIR":
			last.dir = arguments
		case "RUN":
			run("unshare", append([]string{"--mount", "--net", "sh", "-ec", inStage, "sh", t.TempDir(), last.files, last.work, last.dir, arguments}, strings.Fields(string(goVariables))...)...)
		case "COPY":
			from := context
			if name, ok := strings.CutPrefix(words[0], "--from="); ok {
				from, words = stages[name].files, words[1:]
			}
			to := filepath.Join(last.files, last.dir, words[1])
			if filepath.IsAbs(words[1]) {
				to = filepath.Join(last.files, words[1])
			}
			if strings.HasPrefix(words[0], "--") || len(words) != 2 {
				t.Fatalf("this test does not know %s", line)
			}
			run("mkdir", "-p", to)
			run("cp", "-a", filepath.Join(from, words[0])+"/.", to)
		case "LABEL": // for registries
		case "USER":
			result.user, result.group, _ = strings.Cut(arguments, ":")
		case "ENV":
			result.environment = append(result.environment, arguments)
		case "ENTRYPOINT":
			result.entrypoint = list(arguments)
		case "CMD":
			result.cmd = list(arguments)
		case "HEALTHCHECK":
			_, command, ok := strings.Cut(arguments, "CMD ")
			if !ok {
				t.Fatal(line)
			}
			result.healthy = list(command)
		case "VOLUME":
			if _, err := os.Stat(filepath.Join(result.root, list(arguments)[0])); err != nil {
				t.Error(err)
			}
		default:
			t.Fatalf("this test does not know %s", line)
		}
	}
	return result
}

// composed is a service of a file for Compose.
type composed struct {
	NetworkMode string   `json:"network_mode"`
	ReadOnly    bool     `json:"read_only"`
	CapDrop     []string `json:"cap_drop"`
	CapAdd      []string `json:"cap_add"`
	GroupAdd    []string `json:"group_add"`
	Volumes     []string
	Security    []string `json:"security_opt"`
}

// readCompose reads the services of a file for Compose.
func readCompose(t *testing.T, path string) map[string]composed {
	t.Helper()
	python := peer(t, "/usr/bin/python3", "python3 python3-yaml")
	out, err := exec.Command(python, "-c", "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)", path).Output()
	var file struct{ Services map[string]composed }
	if invalid := json.Unmarshal(out, &file); err != nil || invalid != nil {
		t.Fatal(err, invalid)
	}
	return file.Services
}

// container runs an image as an engine does for a service, in a network.
type container struct {
	image
	service composed
	network namespace
	volumes map[string]string // directories or files here, by their path in the container
}

var named = regexp.MustCompile(`^[a-z]`)

// newContainer makes the volumes: named ones start with what the image has there, and others are the files given by their names.
func newContainer(t *testing.T, i image, service composed, network namespace, files map[string]string) container {
	t.Helper()
	c := container{i, service, network, make(map[string]string)}
	for _, volume := range service.Volumes {
		source, target, _ := strings.Cut(volume, ":")
		target, _, _ = strings.Cut(target, ":")
		if !named.MatchString(source) {
			c.volumes[target] = files[source]
			continue
		}
		parent, err := os.MkdirTemp("", "volume") // short, since paths of sockets are
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(parent) })
		c.volumes[target] = filepath.Join(parent, "v")
		if err := os.Chmod(parent, 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("cp", "-a", filepath.Join(i.root, target), c.volumes[target]).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return c
}

// inContainer makes the root ($1), read-only if $2 says so, with volumes ($3, a line TARGET=SOURCE for each), the root of a process with
// the user, the groups and the capabilities of $4 to $7. It cannot regain other capabilities, as when an engine drops them.
const inContainer = `root=$1 only=$2; mount --make-rprivate /; mount --bind "$root" "$root"
mkdir -p "$root/proc" "$root/dev" "$root/etc"
mount -t proc proc "$root/proc"; mount --bind /dev "$root/dev"
for file in hosts resolv.conf; do touch "$root/etc/$file"; mount --bind "/etc/$file" "$root/etc/$file"; done
printf "$3" | while IFS== read -r target source; do
  if [ -d "$source" ]; then mkdir -p "$root$target"; else install -D /dev/null "$root$target"; fi
  mount --bind "$source" "$root$target"
done
[ "$only" = rw ] || mount -o remount,bind,ro "$root"
shift 3; exec /usr/bin/python3 -c '
import ctypes, os, sys
root, user, group, groups, kept, *program = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
for number in range(int(open("/proc/sys/kernel/cap_last_cap").read()) + 1):
    if str(number) not in kept.split(",") and libc.prctl(24, number, 0, 0, 0) != 0:  # PR_CAPBSET_DROP
        sys.exit("prctl: " + os.strerror(ctypes.get_errno()))
os.chroot(root)
os.chdir("/")
os.setgroups([int(g) for g in groups.split(",") if g])
os.setgid(int(group))
os.setuid(int(user))
os.execve(program[0], program, os.environ)
' "$root" "$@"`

// capabilities are the numbers of those that this test knows, as in linux/capability.h.
var capabilities = map[string]string{"NET_BIND_SERVICE": "10"}

// command is a process of the container: of its entry point with arguments, or of another program.
func (c container) command(t *testing.T, program []string, args ...string) *exec.Cmd {
	t.Helper()
	if len(c.service.CapDrop) != 1 || c.service.CapDrop[0] != "ALL" || c.service.NetworkMode != "host" || len(c.service.Security) > 0 {
		t.Fatalf("this test does not know %+v", c.service)
	}
	var kept []string
	for _, name := range c.service.CapAdd {
		kept = append(kept, capabilities[name])
	}
	only := "rw"
	if c.service.ReadOnly {
		only = "ro"
	}
	var volumes strings.Builder
	for target, source := range c.volumes {
		fmt.Fprintf(&volumes, "%s=%s\\n", target, source)
	}
	all := []string{"--mount", "sh", "-ec", inContainer, "sh", c.root, only, volumes.String(), c.user, c.group, strings.Join(c.service.GroupAdd, ","), strings.Join(kept, ",")}
	all = append(append(all, program...), args...)
	cmd := c.network.command("unshare", all...)
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, c.environment...)
	return cmd
}
