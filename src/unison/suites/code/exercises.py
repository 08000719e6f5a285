"""Which functions are there when the standard library's sources are not? Some of our own.

Each stands alone, and its examples fail when any of its lines is missing. ``functions`` reads them
as text.
"""


def digits_of(number: int, base: int) -> list[int]:
    """Return the digits of a number in a base, most significant first.

    >>> digits_of(13, 2)
    [1, 1, 0, 1]
    >>> digits_of(255, 16)
    [15, 15]
    """
    digits = []
    while number:
        number, digit = divmod(number, base)
        digits.append(digit)
    return digits[::-1]


def runs(text: str) -> list[tuple[str, int]]:
    """Return each run of equal characters and its length.

    >>> runs("aaabcc")
    [('a', 3), ('b', 1), ('c', 2)]
    """
    found: list[tuple[str, int]] = []
    for letter in text:
        if found and found[-1][0] == letter:
            found[-1] = (letter, found[-1][1] + 1)
        else:
            found.append((letter, 1))
    return found


def is_palindrome(text: str) -> bool:
    """Return whether the letters of a text read the same in both directions.

    >>> is_palindrome("Never odd or even")
    True
    >>> is_palindrome("palindrome")
    False
    """
    letters = [letter.lower() for letter in text if letter.isalpha()]
    return letters == letters[::-1]


def greatest_divisor(a: int, b: int) -> int:
    """Return the greatest common divisor of two numbers.

    >>> greatest_divisor(84, 36)
    12
    >>> greatest_divisor(7, 0)
    7
    """
    while b:
        a, b = b, a % b
    return a


def caesar(text: str, places: int) -> str:
    """Move every small letter some places on in the alphabet.

    >>> caesar("abc xyz", 3)
    'def abc'
    """
    moved = ""
    for letter in text:
        if letter.islower():
            letter = chr((ord(letter) - ord("a") + places) % 26 + ord("a"))
        moved += letter
    return moved


def balanced(text: str) -> bool:
    """Return whether every bracket is closed in the right order.

    >>> balanced("[(a) + b]")
    True
    >>> balanced("(]"), balanced("(("), balanced("]")
    (False, False, False)
    """
    closing = {"(": ")", "[": "]"}
    awaited: list[str] = []
    for sign in text:
        if sign in closing:
            awaited.append(closing[sign])
        elif sign in closing.values() and (not awaited or awaited.pop() != sign):
            return False
    return not awaited


def primes_below(limit: int) -> list[int]:
    """Return all primes below a limit, by sieving.

    >>> primes_below(30)
    [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
    """
    crossed = [False] * limit
    primes = []
    for number in range(2, limit):
        if not crossed[number]:
            primes.append(number)
            for multiple in range(number, limit, number):
                crossed[multiple] = True
    return primes


def merged(left: list[int], right: list[int]) -> list[int]:
    """Merge two sorted lists into one.

    >>> merged([1, 4, 6], [2, 3, 9])
    [1, 2, 3, 4, 6, 9]
    """
    both = []
    left, right = left[::-1], right[::-1]
    while left and right:
        both.append(left.pop() if left[-1] <= right[-1] else right.pop())
    return both + left[::-1] + right[::-1]


def place_of(wanted: int, numbers: list[int]) -> int:
    """Return where a number stands in a sorted list, by halving, or -1.

    >>> [place_of(n, [2, 3, 5, 7, 11]) for n in (2, 7, 11, 4)]
    [0, 3, 4, -1]
    """
    low, high = 0, len(numbers) - 1
    while low <= high:
        middle = (low + high) // 2
        if numbers[middle] == wanted:
            return middle
        if numbers[middle] < wanted:
            low = middle + 1
        else:
            high = middle - 1
    return -1


def transposed(rows: list[list[int]]) -> list[list[int]]:
    """Return the columns of a table as rows.

    >>> transposed([[1, 2, 3], [4, 5, 6]])
    [[1, 4], [2, 5], [3, 6]]
    """
    columns = [[] for _ in rows[0]]
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return columns


def edits_between(old: str, new: str) -> int:
    """Return how many letters must be inserted, deleted or replaced.

    >>> edits_between("kitten", "sitting")
    3
    >>> edits_between("", "abc")
    3
    """
    above = list(range(len(new) + 1))
    for i, a in enumerate(old, 1):
        row = [i]
        for j, b in enumerate(new, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (a != b)))
        above = row
    return above[-1]


def flattened(nested: list) -> list:
    """Return the items of lists inside lists, in order.

    >>> flattened([1, [2, [3, 4]], [[5]]])
    [1, 2, 3, 4, 5]
    """
    items = []
    for item in nested:
        if isinstance(item, list):
            items.extend(flattened(item))
        else:
            items.append(item)
    return items


def roman(number: int) -> str:
    """Write a number in Roman numerals.

    >>> roman(1994), roman(8)
    ('MCMXCIV', 'VIII')
    """
    values = (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1)
    signs = ["M", "CM", "D", "CD", "C", "XC", "L", "XL", "X", "IX", "V", "IV", "I"]
    written = ""
    for value, sign in zip(values, signs, strict=True):
        written += sign * (number // value)
        number %= value
    return written


def steps_to_one(number: int) -> int:
    """Count steps to 1: an even number is halved, an odd one is tripled and raised by one.

    >>> steps_to_one(6), steps_to_one(27)
    (8, 111)
    """
    steps = 0
    while number != 1:
        number = 3 * number + 1 if number % 2 else number // 2
        steps += 1
    return steps


def most_frequent(words: list[str]) -> str:
    """Return the most frequent word; of several, the first in the alphabet.

    >>> most_frequent(["plum", "fig", "pear", "fig", "plum"])
    'fig'
    """
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return min(counts, key=lambda word: (-counts[word], word))


def wrapped(text: str, width: int) -> list[str]:
    """Break a text into lines that are no wider than they may be.

    >>> wrapped("one two three four", 9)
    ['one two', 'three', 'four']
    """
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def turned(grid: list[str]) -> list[str]:
    """Turn a picture of characters a quarter to the right.

    >>> turned(["ab", "cd", "ef"])
    ['eca', 'fdb']
    """
    upwards = grid[::-1]
    return ["".join(column) for column in zip(*upwards, strict=True)]


def largest_sum(numbers: list[int]) -> int:
    """Return the largest sum of neighbouring numbers.

    >>> largest_sum([2, -5, 4, -1, 3, -6, 5])
    6
    >>> largest_sum([-3, -1])
    -1
    """
    best = current = numbers[0]
    for number in numbers[1:]:
        current = max(number, current + number)
        best = max(best, current)
    return best


def evaluated(tokens: list[str]) -> int:
    """Return the value of a sum or product whose signs stand behind its numbers.

    >>> evaluated("3 4 + 5 *".split())
    35
    """
    stack: list[int] = []
    for token in tokens:
        if token in ("+", "*"):
            right, left = stack.pop(), stack.pop()
            stack.append(left + right if token == "+" else left * right)
        else:
            stack.append(int(token))
    return stack[-1]


def reachable(links: dict[str, list[str]], start: str) -> list[str]:
    """Return every place that links lead to, in alphabetical order.

    >>> reachable({"a": ["b", "c"], "b": ["a"], "c": ["d"], "x": ["a"]}, "a")
    ['a', 'b', 'c', 'd']
    """
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        place = waiting.pop()
        if place not in seen:
            seen.add(place)
            waiting.extend(links.get(place, []))
    return sorted(seen)
