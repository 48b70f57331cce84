"""Options that several of the commands have, and how their values are read."""

import os

import numpy as np

from common.errors import UserError

SMALLEST, LARGEST = 1e-30, 1e30  # of a divisor, mean or standard deviation that the harness takes, in size
MOST_PROCESSES = 16  # unless more are asked for: only one writes


def parse_size(text):
    """'HxW' or 'N' to (height, width); None stays None."""
    if text is None:
        return None
    try:
        numbers = [int(number) for number in text.lower().split("x")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or min(numbers) < 1:
        raise UserError("--size", found=f'"{text}"', expected="a height and a width such as 64x48, or one number")
    return (numbers[0], numbers[-1])


def parse_whole(option, text, least=1):
    """A whole number that is at least `least`."""
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise UserError(option, found=f'"{text}"', expected=f"a whole number from {least} on")
    return number


def range_of(positive):
    """In words, which divisors and deviations (`positive`) or means the harness takes."""
    return f"from {SMALLEST if positive else -LARGEST:g} to {LARGEST:g}"


def in_range(numbers, positive):
    """Whether all are as range_of() says; not a number is not."""
    return bool(np.all((np.abs(numbers) <= LARGEST) & (not positive or np.asarray(numbers) >= SMALLEST)))


def parse_constants(option, text, channels, default, positive):
    """One number for all channels, or one per channel, as a list of `channels` numbers; so is the default."""
    if text is None:
        return list(default) if len(default) == channels else list(default) * channels
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, channels):
        raise UserError(option, found=f'"{text}"', expected=f"1 or {channels} numbers for images of {channels} channels"
                        if channels > 1 else "1 number for images of 1 channel")
    if positive and min(numbers) <= 0:
        raise UserError(option, found=f'"{text}"', expected="numbers above 0")
    if not in_range(numbers, positive):
        raise UserError(option, found=f'"{text}"', expected="numbers " + range_of(positive))
    return numbers if len(numbers) == channels else numbers * channels


def add_processes(parser):
    parser.add_argument("--processes", metavar="N",
                        help=f"that read images (default: one per core, at most {MOST_PROCESSES})")


def parse_processes(text):
    if text is None:
        return min(MOST_PROCESSES, len(os.sched_getaffinity(0)))
    return parse_whole("--processes", text)


def add_constants(parser):
    parser.add_argument("--mean", metavar="M,...", help="per channel or one for all, after division by 255")
    parser.add_argument("--std", metavar="S,...", help="per channel or one for all, after division by 255")
