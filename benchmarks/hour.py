"""The service's memory over an hour: python -m benchmarks.hour → benchmarks/hour.md.

The load is light, so that it may run beside other work; latency under load is benchmarks/service.py's.
"""

import argparse

from benchmarks import measured, service

RESULTS = service.ROOT / "benchmarks/hour.md"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="The service's memory under a light load, some time long.")
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long (3,600)")
    parser.add_argument("--rate", type=float, default=25.0, help="requests a second (25)")
    chosen = parser.parse_args()
    pictures = [service.form(service.shot(seed, plain=seed % 2 == 0)) for seed in range(8)]
    model = service.model_of_clone()
    with service.ours_running(model) as ours:
        service.measure(ours, pictures, chosen.rate, 10)  # what is made once has been made
        with service.memory(ours, chosen.seconds) as sizes:
            found = service.measure(ours, pictures, chosen.rate, chosen.seconds)
    statuses = ", ".join(f"{status or 'none'}: {count:,}" for status, count in sorted(found.statuses.items()))
    text = (
        f"# The service's memory\n\n{measured.by(f'python -m benchmarks.hour --rate {chosen.rate:g}')}.\n\n"
        f"{chosen.rate:.0f} requests a second for {chosen.seconds:,.0f} s, product shots and photographs in turn, "
        f"beside other work. Answers: {statuses}.\n\n"
        f"Memory of service and workers in MiB, at the beginning and after each tenth: {', '.join(sizes)}.\n"
    )
    RESULTS.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
