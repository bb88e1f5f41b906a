<?php final class Broken {
