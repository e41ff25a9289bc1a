// What runs in the pods of the suite `runtimes`. Without arguments it waits; `serve ADDRESS TEXT` tells everybody who
// connects the text; `fetch ADDRESS` prints what is told there.
package main

import (
	"io"
	"log"
	"net"
	"os"
	"time"
)

func main() {
	switch {
	case len(os.Args) == 1:
		time.Sleep(24 * time.Hour)
	case len(os.Args) == 4 && os.Args[1] == "serve":
		serve(os.Args[2], os.Args[3])
	case len(os.Args) == 3 && os.Args[1] == "fetch":
		fetch(os.Args[2])
	default:
		log.Fatalf("arguments: none, `serve ADDRESS TEXT` or `fetch ADDRESS`, not %q", os.Args[1:])
	}
}

func serve(address, text string) {
	listener, err := net.Listen("tcp4", address)
	if err != nil {
		log.Fatal(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		// Who has gone does not want it.
		_, _ = io.WriteString(connection, text)
		connection.Close()
	}
}

func fetch(address string) {
	connection, err := net.DialTimeout("tcp4", address, 2*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(os.Stdout, connection); err != nil {
		log.Fatal(err)
	}
}
