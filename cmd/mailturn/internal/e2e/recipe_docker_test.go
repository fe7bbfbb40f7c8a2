package e2e

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/recipe"
)

// runWithDocker checks that the flags say the same as the file for Compose, with which besideDockerMailserver builds and runs the image,
// except for what concerns Dovecot. It does not run the image again, because building it takes long.
func runWithDocker(t *testing.T, _ documents, b recipe.Block) {
	build, run, _ := strings.Cut(strings.ReplaceAll(b.Text, "\\\n", " "), "\n")
	if build != "docker build --file dist/container/Dockerfile --tag mailturn ." {
		t.Errorf("the Dockerfile says to build the image otherwise than %s", build)
	}
	want := readCompose(t, "../../../../dist/container/compose.override.yaml")["mailturn"]
	want.GroupAdd = nil
	want.Volumes = slices.DeleteFunc(want.Volumes, func(v string) bool { return strings.HasPrefix(v, "mailturn-sockets:") })
	for i, v := range want.Volumes {
		want.Volumes[i] = strings.Replace(v, "./docker-data/", "/etc/", 1)
	}
	if got := composedOf(t, run); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := composedOf(t, strings.Replace(run, "--read-only", "", 1)); reflect.DeepEqual(got, want) {
		t.Error("nobody would miss --read-only")
	}
	worked(t, b, mailturnAlone, "not run by itself: the settings are those of the file for Compose, which is run", "without --read-only")
}

// composedOf returns the service of Compose that has what the flags of docker run say.
func composedOf(t *testing.T, command string) (c composed) {
	t.Helper()
	words := strings.Fields(command)
	for i := 2; i < len(words); i++ {
		flag := words[i]
		switch flag {
		case "--detach":
			continue
		case "--read-only":
			c.ReadOnly = true
			continue
		case "mailturn":
			continue
		}
		i++
		switch value := words[i]; flag {
		case "--name", "--restart", "--ulimit": // for the engine alone
		case "--network":
			c.NetworkMode = value
		case "--cap-drop":
			c.CapDrop = append(c.CapDrop, value)
		case "--cap-add":
			c.CapAdd = append(c.CapAdd, value)
		case "--volume":
			c.Volumes = append(c.Volumes, value)
		default:
			t.Fatalf("this test does not know %s", flag)
		}
	}
	return c
}
