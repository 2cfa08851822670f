"""How long answers take: python examples/service/load.py [--url http://127.0.0.1:8000]

Each of so many clients asks one user's list after the other over a connection of its own; printed
are requests a second, and the median and 99th percentile of the time to an answer. The clients are
threads of one process, whose own work is in the times.
"""

import argparse
import http.client
import threading
import time
from urllib.parse import quote, urlsplit

import numpy as np


def ask(address: str, users: list[str], seconds: list[float]) -> None:
    """One client; every answer must be a list."""
    connection = http.client.HTTPConnection(address, timeout=60)
    for user in users:
        started = time.perf_counter()
        connection.request("GET", f"/recommend?user={quote(user)}")
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise RuntimeError(f"user {user}: status {response.status}")
        seconds.append(time.perf_counter() - started)


def measure(address: str, users: list[str], clients: int, requests: int) -> str:
    """A row of a table: ``requests`` answers shared by the clients."""
    seconds: list[float] = []
    drawn = np.random.default_rng(clients).choice(users, requests).tolist()
    threads = [
        threading.Thread(target=ask, args=(address, drawn[n::clients], seconds))
        for n in range(clients)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(seconds) < requests:
        raise SystemExit("error: some requests failed.")
    rate = requests / (time.perf_counter() - started)
    median, last = np.percentile(np.array(seconds) * 1000, [50, 99])
    return f"| {clients} | {rate:.0f} | {median:.1f} | {last:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--users", default="1-1000", help="raw ids, from-to")
    parser.add_argument("--requests", type=int, default=2000)
    args = parser.parse_args()
    address, (first, last) = urlsplit(args.url).netloc, map(int, args.users.split("-"))
    users = [str(user) for user in range(first, last + 1)]
    measure(address, users, 1, 50)  # warm
    print("| clients | requests/s | median, ms | 99 %, ms |")
    print("| ---: | ---: | ---: | ---: |")
    for clients in (1, 8, 32):
        print(measure(address, users, clients, args.requests), flush=True)


if __name__ == "__main__":
    main()
