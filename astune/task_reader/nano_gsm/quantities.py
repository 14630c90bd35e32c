"""Families about time, distance, age, area and rates."""

from __future__ import annotations

from astune.task_reader.nano_gsm.family import Family, Step

QUANTITIES: tuple[Family, ...] = (
    Family(
        "pages_left",
        questions=(
            "A book has {pages} pages. {name} reads {daily} pages a day for {days} days. How many pages are left?",
            "{name} reads {daily} pages every day. After {days} days, how many pages of a book with {pages} "
            "pages are left?",
        ),
        plans=(
            "Find the pages that are read, then take them from the book.",
            "Multiply the pages by the days. Then subtract them from all pages.",
        ),
        slots={"pages": (120, 400), "daily": (5, 20), "days": (2, 9)},
        steps=(
            Step("read", "daily * days", "{name} reads {math} pages."),
            Step("left", "pages - read", "{math} pages are left."),
        ),
    ),
    Family(
        "two_speeds",
        questions=(
            "{name} drives {fast} hours at {speed} miles an hour and {slow} hours at {pace} miles an hour. How "
            "many miles "
            "does {he} drive?",
            "A train goes {speed} miles an hour for {fast} hours, then {pace} miles an hour for {slow} hours. "
            "How far does "
            "it go in miles?",
        ),
        plans=(
            "Find the miles of each part, then add them.",
            "Multiply hours by speed for both parts. Then add.",
        ),
        slots={"fast": (2, 9), "speed": (40, 80), "slow": (2, 9), "pace": (10, 39)},
        steps=(
            Step("one", "fast * speed", "The first part is {math} miles."),
            Step("two", "slow * pace", "The second part is {math} miles."),
            Step("miles", "one + two", "Together that is {math} miles."),
        ),
    ),
    Family(
        "age_later",
        questions=(
            "{name} is {age} years old. {friend} is {times} times as old. How old will {friend} be in {years} years?",
            "{friend} is {times} times as old as {name}, who is {age}. What will be the age of {friend} after "
            "{years} years?",
        ),
        plans=(
            "Find the age of {friend} now, then add the years.",
            "Multiply the age of {name}. Then add the years.",
        ),
        slots={"age": (4, 15), "times": (2, 5), "years": (2, 20)},
        steps=(
            Step("now", "age * times", "{friend} is {math} years old."),
            Step("later", "now + years", "Then {friend} will be {math}."),
        ),
    ),
    Family(
        "fence",
        questions=(
            "A garden is {length} meters long and {width} meters wide. A fence around it costs ${price} per "
            "meter. How many "
            "dollars does the fence cost?",
            "{name} puts a fence around a garden of {length} by {width} meters. Each meter costs ${price}. What "
            "does the "
            "fence cost in dollars?",
        ),
        plans=(
            "Find the length of the fence, then multiply by the price.",
            "Add both sides and double them. Then multiply by the price.",
        ),
        slots={"length": (10, 40), "width": (3, 20), "price": (2, 12)},
        steps=(
            Step("around", "2 * (length + width)", "The fence is {math} meters long."),
            Step("cost", "around * price", "It costs {math} dollars."),
        ),
    ),
    Family(
        "tiles",
        questions=(
            "A floor is {length} feet long and {width} feet wide. {name} has {have} tiles of one square foot. "
            "How many more "
            "tiles does {he} need?",
            "{name} covers a floor of {length} by {width} feet with tiles of one square foot and already has "
            "{have} tiles. "
            "How many tiles are missing?",
        ),
        plans=(
            "Find the area of the floor, then take away the tiles.",
            "Multiply length by width. Then subtract the tiles that are there.",
        ),
        slots={"length": (10, 30), "width": (6, 20), "have": (10, 58)},
        steps=(
            Step("area", "length * width", "The floor needs {math} tiles."),
            Step("need", "area - have", "{math} tiles are missing."),
        ),
    ),
    Family(
        "running_week",
        questions=(
            "{name} runs {short} miles on each of {days} days and {far} miles on Sunday. How many miles does {he} run?",
            "On Sunday {name} runs {far} miles. On {days} other days {he} runs {short} miles each. How many "
            "miles is that "
            "in a week?",
        ),
        plans=(
            "Find the miles of the other days, then add Sunday.",
            "Multiply the days by their miles. Then add the miles of Sunday.",
        ),
        slots={"short": (2, 9), "days": (2, 6), "far": (8, 25)},
        steps=(
            Step("week", "days * short", "The other days make {math} miles."),
            Step("miles", "week + far", "In all that is {math} miles."),
        ),
    ),
    Family(
        "machine_rate",
        questions=(
            "A machine makes {rate} {item} an hour. It runs {hours} hours a day for {days} days. How many {item} "
            "does it "
            "make?",
            "For {days} days a machine runs {hours} hours each day. It makes {rate} {item} per hour. How many "
            "{item} is that?",
        ),
        plans=(
            "Find all the hours, then multiply by the rate.",
            "Multiply hours by days. Then multiply by the {item} per hour.",
        ),
        slots={"rate": (5, 50), "hours": (4, 12), "days": (2, 7)},
        words={"item": ("screws", "buttons", "cans", "tools")},
        steps=(
            Step("time", "hours * days", "It runs {math} hours."),
            Step("made", "time * rate", "It makes {math} {item}."),
        ),
    ),
    Family(
        "water_tank",
        questions=(
            "A tank holds {start} liters. {inflow} liters flow in and {outflow} liters flow out every minute. How many "
            "liters are in it after {minutes} minutes?",
            "Every minute a tank gains {inflow} liters and loses {outflow} liters. It starts with {start} "
            "liters. How many "
            "liters does it hold after {minutes} minutes?",
        ),
        plans=(
            "Find the gain in a minute, multiply by the minutes, then add the start.",
            "Subtract to get the gain. Multiply by the minutes. Add the start.",
        ),
        slots={"start": (20, 200), "outflow": (2, 9), "more": (2, 12), "minutes": (3, 30)},
        derived={"inflow": "outflow + more"},
        steps=(
            Step("gain", "inflow - outflow", "The tank gains {math} liters a minute."),
            Step("added", "gain * minutes", "Over the time that is {math} liters."),
            Step("total", "start + added", "The tank then holds {math} liters."),
        ),
    ),
    Family(
        "recipe",
        questions=(
            "A recipe for {serves} people needs {cups} cups of {item}. How many cups of {item} does {name} need for "
            "{people} people?",
            "{cups} cups of {item} are enough for {serves} people. {name} cooks for {people} people. How many "
            "cups does {he} "
            "need?",
        ),
        plans=(
            "Find how many times the recipe is made, then multiply the cups.",
            "Divide the people by those in the recipe. Then multiply by the cups.",
        ),
        slots={"serves": (2, 6), "cups": (2, 9), "batches": (2, 9)},
        derived={"people": "serves * batches"},
        words={"item": ("flour", "rice", "milk", "sugar")},
        steps=(
            Step("times", "people // serves", "The recipe is made {math} times."),
            Step("total", "times * cups", "That needs {math} cups."),
        ),
    ),
    Family(
        "average",
        questions=(
            "{name} scores {first}, {second} and {third} points in three games. What is {his} average score?",
            "In three games {name} gets {first}, {second} and {third} points. How many points is that on average?",
        ),
        plans=(
            "Add the three scores, then divide by three.",
            "Find the sum of the points. Then divide it by three.",
        ),
        slots={"first": (5, 40), "second": (5, 40), "third": (5, 40)},
        steps=(
            Step("points", "first + second + third", "The sum is {math} points."),
            Step("mean", "points // 3", "The average is {math} points."),
        ),
    ),
    Family(
        "study_time",
        questions=(
            "{name} studies {math_time} minutes of math and {art_time} minutes of art a day. How many hours is that in "
            "{days} days?",
            "Each day {name} spends {math_time} minutes on math and {art_time} minutes on art. How many hours "
            "does {he} spend "
            "in {days} days?",
        ),
        plans=(
            "Find the minutes of a day, multiply by the days, then turn them into hours.",
            "Add the minutes. Multiply by the days. Divide by sixty.",
        ),
        slots={"math_time": (10, 60, 5), "art_time": (10, 60, 5), "days": (2, 12)},
        steps=(
            Step("daily", "math_time + art_time", "A day has {math} minutes."),
            Step("minutes", "daily * days", "All days have {math} minutes."),
            Step("hours", "minutes // 60", "That is {math} hours."),
        ),
    ),
    Family(
        "orchard",
        questions=(
            "{name} has {trees} trees with {each} {item} on each. {He} drops {lost} of the {item} and packs the "
            "rest in bags "
            "of {size}, sold for ${price} a bag. How many dollars does {he} get?",
            "An orchard has {trees} trees and each gives {each} {item}. {lost} {item} are bad. The others go in "
            "bags of "
            "{size} at ${price} a bag. How many dollars do all bags bring?",
        ),
        plans=(
            "Find all the {item}, take away the lost ones, find the bags, then multiply by the price.",
            "Multiply trees by {item}. Subtract. Divide into bags. Multiply by the price.",
        ),
        slots={"trees": (4, 15), "each": (8, 30), "lost": (2, 20), "size": (2, 9), "price": (2, 9)},
        words={"item": ("pears", "plums", "figs", "peaches")},
        steps=(
            Step("total", "trees * each", "The trees give {math} {item}."),
            Step("good", "total - lost", "{math} of them are good."),
            Step("bags", "good // size", "They fill {math} bags."),
            Step("money", "bags * price", "The bags bring {math} dollars."),
        ),
    ),
)
