"""Families about counting, sharing and comparing things."""

from __future__ import annotations

from astune.task_reader.nano_gsm.family import Family, Step

COUNTING: tuple[Family, ...] = (
    Family(
        "give_away",
        questions=(
            "{name} has {start} {item}. {He} gives {given} to {friend}. How many {item} does {he} have left?",
            "There are {start} {item} in {name}'s box. {friend} takes {given} of them. How many {item} are left "
            "in the box?",
            "{name} had {start} {item} and lost {given} of them. How many {item} remain?",
        ),
        plans=("Take away the {item} that are gone.", "Subtract the {item} that are gone from the start."),
        slots={"start": (15, 99), "given": (2, 14)},
        words={"item": ("marbles", "stickers", "coins", "cards", "shells")},
        steps=(Step("left", "start - given", "{math} {item} are left."),),
    ),
    Family(
        "get_more",
        questions=(
            "{name} has {start} {item} and finds {found} more. How many {item} does {he} have now?",
            "{name} picks {start} {item} in the morning and {found} in the evening. How many {item} is that in all?",
        ),
        plans=("Add the {item} of both parts.", "Put both counts of {item} together."),
        slots={"start": (3, 90), "found": (2, 60)},
        words={"item": ("nuts", "flowers", "stones", "berries")},
        steps=(Step("total", "start + found", "That is {math} {item}."),),
    ),
    Family(
        "boxes",
        questions=(
            "There are {boxes} boxes with {each} {item} in each box. How many {item} are there?",
            "{name} fills {boxes} boxes and puts {each} {item} in every box. How many {item} does {he} pack?",
        ),
        plans=("Multiply the boxes by the {item} in each.", "Every box holds the same, so multiply."),
        slots={"boxes": (3, 30), "each": (3, 24)},
        words={"item": ("pencils", "candles", "bottles", "oranges")},
        steps=(Step("total", "boxes * each", "There are {math} {item}."),),
    ),
    Family(
        "share_equally",
        questions=(
            "{name} shares {total} {item} equally among {people} children. How many {item} does each child get?",
            "{people} children share {total} {item} equally. How many {item} does one child get?",
        ),
        plans=("Divide the {item} by the children.", "Share the {item}, so divide by the children."),
        slots={"people": (2, 12), "each": (3, 25)},
        derived={"total": "people * each"},
        words={"item": ("candies", "grapes", "crayons", "cookies")},
        steps=(Step("share", "total // people", "Each child gets {math} {item}."),),
    ),
    Family(
        "boxes_minus_broken",
        questions=(
            "A shop gets {boxes} crates with {each} {item} each. {broken} of them are broken. How many good "
            "{item} are there?",
            "{name} unpacks {boxes} crates of {each} {item} and throws away {broken} broken ones. How many "
            "{item} are left?",
        ),
        plans=(
            "Find all the {item}, then take away the broken ones.",
            "Multiply the crates by their {item}. Then subtract the broken ones.",
        ),
        slots={"boxes": (3, 20), "each": (6, 24), "broken": (2, 17)},
        words={"item": ("glasses", "plates", "bulbs", "jars")},
        steps=(
            Step("total", "boxes * each", "There are {math} {item}."),
            Step("good", "total - broken", "{math} of them are good."),
        ),
    ),
    Family(
        "compare_sum",
        questions=(
            "{name} has {start} {item}. {friend} has {more} more {item} than {name}. How many {item} do they "
            "have together?",
            "{friend} owns {more} {item} more than {name}, who owns {start}. How many {item} do both own together?",
        ),
        plans=(
            "Find the {item} of {friend}, then add both.",
            "Add to get the {item} of {friend}. Then add both counts.",
        ),
        slots={"start": (4, 70), "more": (2, 30)},
        words={"item": ("books", "stamps", "games", "dolls")},
        steps=(
            Step("other", "start + more", "{friend} has {math} {item}."),
            Step("total", "start + other", "Together they have {math} {item}."),
        ),
    ),
    Family(
        "half_as_many",
        questions=(
            "{name} sold {first} {item} in April and half as many in May. How many {item} did {he} sell in both "
            "months?",
            "In April {name} sold {first} {item}. In May {he} sold half as many. How many {item} did {he} sell "
            "altogether?",
        ),
        plans=(
            "Find half of the {item} of April, then add both months.",
            "Divide by two for May. Then add April and May.",
        ),
        slots={"first": (10, 180, 2)},
        words={"item": ("clips", "tickets", "cakes", "papers")},
        steps=(
            Step("may", "first // 2", "In May {name} sold {math} {item}."),
            Step("total", "first + may", "In both months that is {math} {item}."),
        ),
    ),
    Family(
        "times_as_many",
        questions=(
            "{friend} has {start} {item}. {name} has {times} times as many {item} and gives away {given}. How "
            "many {item} "
            "does {name} have now?",
            "{name} has {times} times as many {item} as {friend}, who has {start}. Then {name} loses {given}. How many "
            "{item} does {name} have left?",
        ),
        plans=(
            "Find the {item} of {name}, then take away what is gone.",
            "Multiply the {item} of {friend}. Then subtract what is gone.",
        ),
        slots={"start": (5, 40), "times": (2, 8), "given": (2, 9)},
        words={"item": ("beads", "pins", "magnets", "badges")},
        steps=(
            Step("many", "start * times", "{name} has {math} {item}."),
            Step("left", "many - given", "{math} {item} are left."),
        ),
    ),
    Family(
        "bus_stops",
        questions=(
            "A bus has {start} people. At the first stop {off} get off and {on} get on. At the next stop {leave} "
            "get off. "
            "How many people are on the bus?",
            "{start} people ride a bus. First {off} leave and {on} enter. Later {leave} more leave. How many "
            "people are on "
            "the bus now?",
        ),
        plans=(
            "Follow the first stop, then the next stop.",
            "Update the people at the first stop. Then subtract those who leave.",
        ),
        slots={"start": (25, 70), "off": (3, 12), "on": (2, 15), "leave": (2, 12)},
        steps=(
            Step("riders", "start - off + on", "After the first stop there are {math} people."),
            Step("now", "riders - leave", "Then there are {math} people."),
        ),
    ),
    Family(
        "rows_of_seats",
        questions=(
            "A hall has {rows} rows with {per_row} seats each. {sold} tickets are sold. How many seats stay empty?",
            "There are {rows} rows of {per_row} seats in a hall and {sold} people sit down. How many seats are free?",
        ),
        plans=(
            "Find all the seats, then take away those in use.",
            "Multiply the rows by the seats. Then subtract the seats in use.",
        ),
        slots={"rows": (8, 25), "per_row": (8, 30), "sold": (20, 64)},
        steps=(
            Step("seats", "rows * per_row", "There are {math} seats."),
            Step("empty", "seats - sold", "{math} seats are empty."),
        ),
    ),
    Family(
        "teams",
        questions=(
            "A class has {girls} girls and {boys} boys. They form teams of {size}. How many teams are there?",
            "{girls} girls and {boys} boys make teams with {size} children in each team. How many teams do they make?",
        ),
        plans=(
            "Add the girls and the boys, then divide by the team size.",
            "Find all the children. Then divide by the size of a team.",
        ),
        slots={"size": (2, 9), "groups": (4, 14), "boys": (5, 20)},
        derived={"girls": "size * groups - boys"},
        positive="girls - 2",
        steps=(
            Step("children", "girls + boys", "There are {math} children."),
            Step("teams", "children // size", "They make {math} teams."),
        ),
    ),
    Family(
        "bags_and_rest",
        questions=(
            "{name} has {total} {item}. {He} keeps {kept} and packs the others in bags of {size}. How many bags "
            "does {he} "
            "fill?",
            "Out of {total} {item}, {name} puts {kept} aside and packs the rest in bags with {size} in each. How "
            "many bags "
            "are there?",
        ),
        plans=(
            "Find the {item} to pack, then divide by the bag size.",
            "Subtract the {item} that are kept. Then divide by the size of a bag.",
        ),
        slots={"size": (3, 12), "groups": (3, 20), "kept": (2, 15)},
        derived={"total": "size * groups + kept"},
        words={"item": ("apples", "rolls", "lemons", "potatoes")},
        steps=(
            Step("packed", "total - kept", "{name} packs {math} {item}."),
            Step("bags", "packed // size", "That fills {math} bags."),
        ),
    ),
)
